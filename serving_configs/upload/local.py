"""What an upload takes from a published tree, and how it says what it does."""

import dataclasses
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence

from signatures.messages import without_credentials

from ..errors import ConfigError
from ..server.models_config import find_model, labels_of, models_config_path, read_models_config
from ..tree.paths import MANIFEST, SIGNATURE
from ..tree.published import PublishedModel, read_models, require_versions
from ..trust.check import require_signature, require_sound


@dataclasses.dataclass(frozen=True)
class Upload:
    """An upload of a tree.

    Attributes:
        publish_to: root of the published tree.
        owner: the user or the organisation that has the models on the hub.
        dry_run: whether it is only said what would be uploaded.
        report: takes a line about each thing that is there, was uploaded, or would be.
    """

    publish_to: str
    owner: str
    dry_run: bool
    report: Callable[[str], None]

    def do(self, what: str, done: str, act: Callable[[], object]) -> None:
        """Does something on the hub, unless it is a dry run, and says so.

        Args:
            what: what it is done to.
            done: what is done, as a participle.
            act: does it.
        """
        if self.dry_run:
            self.report(f"{what}: would be {done}")
        else:
            act()
            self.report(f"{what}: {done}")

    def there(self, what: str) -> None:
        """Says that something is on the hub already."""
        self.report(f"{what}: already there")

    def require_good(self, model: PublishedModel) -> None:
        """Refuses a version that is damaged, or is not signed as its tree's are.

        Raises:
            ConfigError: it is.
        """
        require_sound(self.publish_to, model.model, model.version)
        require_signature(self.publish_to, model.model, model.version)


def models_to_upload(
    publish_to: str, names: Collection[str]
) -> Mapping[str, Sequence[PublishedModel]]:
    """Model -> its versions, ascending.

    Args:
        publish_to: root of the published tree.
        names: of the models; empty for all.

    Raises:
        ConfigError: nothing is published, or no model of one of the names.
    """
    require_versions(publish_to)
    models = read_models(publish_to)
    for name in names:
        if name not in models:
            raise ConfigError(
                f"--model {name}: not published in {publish_to}; it has {', '.join(models)}"
            )
    return {name: models[name] for name in names or models}


def labels_to_upload(publish_to: str, model: str) -> dict[str, int]:
    """Label -> the version that servers give it; empty for a model without labels.

    Raises:
        ConfigError: `models.config` cannot be read, or does not have the model.
    """
    return labels_of(find_model(read_models_config(models_config_path(publish_to)), model))


def files_of(model: PublishedModel) -> list[str]:
    """The paths of all files of a version, with its manifest, and its signature where it has one.

    They are relative to the version's directory.
    """
    return sorted([*(record.path for record in model.files), *identity_of(model)])


def identity_of(model: PublishedModel) -> dict[str, bytes]:
    """The small files that tell whether a version is on the hub: path -> content.

    The manifest has the checksums of all others but the signature.

    Raises:
        OSError: one cannot be read.
    """
    found = {str(MANIFEST): (model.directory / MANIFEST).read_bytes()}
    signature = model.directory / SIGNATURE
    if signature.exists():
        found[str(SIGNATURE)] = signature.read_bytes()
    return found


def described(model: PublishedModel) -> str:
    """A version for the lines of `Upload.report`: its files, their size, and a warning."""
    megabytes = sum(pathlib.Path(model.directory, name).stat().st_size for name in files_of(model))
    warning = "" if model.trained else ", not trained: random weights"
    return f"{len(files_of(model))} files, {megabytes / 1e6:.1f} MB{warning}"


def first_line(text: str, secrets: Collection[str]) -> str:
    """The first line of what a library or a hub says, without credentials.

    Args:
        text: what it says.
        secrets: tokens and keys of this user.
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    for secret in secrets:
        line = line.replace(secret, "<hidden>")
    return without_credentials(line)
