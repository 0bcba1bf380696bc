"""What every step of a publish run has to know."""

import dataclasses
from typing import Any

from ..store.staging import Staging
from .options import PublishOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishContext:
    """What every step of a run has to know.

    Attributes:
        options: the job's options.
        staging: what the run keeps in the store.
        filesystem: Beam's options, without which a worker cannot open the store.
    """

    options: PublishOptions
    staging: Staging
    filesystem: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
