"""What every step of a publish run has to know."""

import dataclasses
import pathlib

from .options import PublishOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishContext:
    """What every step of a run has to know.

    Attributes:
        options: the job's options.
        staging: the run's directory in the staging area.
        labels: names of the classes; None for ImageNet's, or numbers where there are not as many.
    """

    options: PublishOptions
    staging: pathlib.Path
    labels: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The run's name, which no other run has: a repeated step recognises its work by it."""
        return self.staging.name

    @property
    def progress(self) -> str:
        """Where finished steps are reported."""
        return str(self.staging / "progress")
