"""What the last write of a tree's configs was given, for the next one that is given less."""

import dataclasses
import json
import pathlib

from ..errors import ConfigError
from .files import open_file
from .paths import DEPLOYMENT

SETTINGS = f"{DEPLOYMENT}/settings.json"


@dataclasses.dataclass(frozen=True)
class KeptSettings:
    """Settings of the files around a tree's models.

    Attributes:
        batching: whether servers join requests to batches.
        base_path: directory of the base paths as servers see it, with which `models.config` is
            compared; None where an earlier version wrote the file.
        hub_url: URL of the hub's directory; None for the default.
        storage_class: class of the volume for the models in Kubernetes, which pods on several nodes
            can read; None for the cluster's default, which pods on one node can.
    """

    batching: bool
    base_path: str | None = None
    hub_url: str | None = None
    storage_class: str | None = None

    def as_text(self) -> str:
        """The file's content."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True) + "\n"


def read_settings(publish_to: str) -> KeptSettings:
    """The settings of a tree on a disk; the defaults where there is no file.

    Raises:
        ConfigError: the file cannot be read.
    """
    path = pathlib.Path(publish_to) / SETTINGS
    try:
        with open_file(path) as file:
            content = file.read()
    except FileNotFoundError:
        return KeptSettings(batching=False)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    return parse_settings(content, str(path))


def parse_settings(content: bytes, path: str) -> KeptSettings:
    """Parses what `KeptSettings.as_text` returned; that of earlier versions lacks some of it.

    Args:
        content: of the file.
        path: the file, for error messages.

    Raises:
        ConfigError: it is something else.
    """
    try:
        found = KeptSettings(**json.loads(content))
    except (ValueError, TypeError, RecursionError):
        found = None
    if (
        found is None
        or not isinstance(found.batching, bool)
        or not isinstance(found.base_path, str | None)
        or not isinstance(found.hub_url, str | None)
        or not isinstance(found.storage_class, str | None)
    ):
        raise ConfigError(
            f"{path}: expected such as {KeptSettings(False, '/models').as_text().strip()}; write "
            "it with: python -m serving_configs write --batching or --no-batching"
        )
    return found
