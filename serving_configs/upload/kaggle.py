"""Uploading to Kaggle Models, with `kagglehub`.

Every model of a tree is a variation of one model, `<owner>/cait/tensorFlow2/<variation>`. Kaggle
numbers versions itself, and a version there never changes. So a version is known by the manifest
among its files, whatever its number.

Credentials, and where they come from, are the library's: KAGGLE_API_TOKEN, KAGGLE_USERNAME with
KAGGLE_KEY, or a file below ~/.kaggle. It is imported at the first use.
"""

import contextlib
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..errors import ConfigError
from ..hub.kaggle import instance_metadata, model_metadata
from ..tree.manifest import ManifestError, parse_manifest
from ..tree.paths import MANIFEST, SIGNATURE
from ..tree.published import PublishedModel
from .kaggle_models import KaggleModels
from .local import Upload, described, first_line, identity_of, models_to_upload

# Field of the metadata files -> of the interface, for what a page shows. Nobody's choice of who
# may see the model is changed.
_MODEL_FIELDS = {
    "title": "title",
    "subtitle": "subtitle",
    "description": "description",
    "provenanceSources": "provenance_sources",
}
_VARIATION_FIELDS = {
    "overview": "overview",
    "usage": "usage",
    "licenseName": "license_name",
    "fineTunable": "fine_tunable",
    "trainingData": "training_data",
}


def upload_to_kaggle(upload: Upload, names: Collection[str]) -> None:
    """Uploads versions that are not there, oldest first, and the pages that differ.

    What is there already is left as it is: after a break, or a failure, the same call goes on with
    the first version that is missing.

    Args:
        upload: the tree and the owner.
        names: of the models; empty for all.

    Raises:
        ConfigError: the library or credentials are missing, Kaggle refuses, or a version may not be
            uploaded.
        OSError: a file cannot be read.
    """
    models = models_to_upload(upload.publish_to, names)
    # What the library prints is no output of the command.
    with contextlib.redirect_stdout(sys.stderr), _refusals(upload.owner):
        hub = KaggleModels(upload.owner)
        latest = [versions[-1] for versions in models.values()]
        known = hub.model() is not None
        if not known:
            upload.do(hub.handle, "created, private", hub.create_model)
        for versions in models.values():
            _upload_versions(upload, hub, versions)
            metadata = json.loads(instance_metadata(upload.owner, versions[-1], "hub"))
            found = hub.variation(versions[-1])
            page = f"page of {hub.handle_of(versions[-1])}"
            _upload_page(upload, page, found, metadata, hub.update_variation, _VARIATION_FIELDS)
        metadata = json.loads(model_metadata(upload.owner, latest))
        found = hub.model()
        # That of some models would name those alone.
        if not names or not known:
            page = f"page of {hub.handle}"
            _upload_page(upload, page, found, metadata, hub.update_model, _MODEL_FIELDS)


def _upload_versions(upload: Upload, hub: KaggleModels, versions: Sequence[PublishedModel]) -> None:
    names = {name for model in versions for name in identity_of(model)}
    there = hub.versions(versions[0], names)
    for model in versions:
        what = f"version {model.version} of {model.model}"
        number = _number(there, model)
        if number is not None:
            upload.there(f"{what} ({hub.handle_of(model)}/{number})")
            continue
        upload.require_good(model)
        upload.do(
            f"{what} ({described(model)})",
            f"uploaded to {hub.handle_of(model)}",
            lambda model=model: hub.upload(model),  # type: ignore[misc]
        )


def _number(there: Mapping[int, Mapping[str, bytes]], model: PublishedModel) -> int | None:
    """Kaggle's number of a version; None where it is not there.

    Raises:
        ConfigError: another one with its name and number is.
    """
    mine = identity_of(model)
    for number, files in there.items():
        manifest = files.get(str(MANIFEST), b"")
        # A version that was signed after it was uploaded is uploaded again.
        if manifest == mine[str(MANIFEST)]:
            if files.get(str(SIGNATURE)) == mine.get(str(SIGNATURE), files.get(str(SIGNATURE))):
                return number
            continue
        with contextlib.suppress(ManifestError):
            other = parse_manifest(manifest)
            if (other.model, other.version) == (model.model, model.version):
                raise ConfigError(
                    f"Kaggle's version {number} is another version {model.version} of "
                    f"{model.model}, from another tree; expected the same files; remove it on "
                    "Kaggle, or upload with another --owner"
                )
    return None


def _upload_page(
    upload: Upload,
    what: str,
    found: Any,
    metadata: Mapping[str, Any],
    update: Any,
    fields: Mapping[str, str],
) -> None:
    # Kaggle strips texts.
    expected = {fields[name]: value for name, value in metadata.items() if name in fields}
    differing = {
        name: value
        for name, value in expected.items()
        if found is None or _stripped(getattr(found, name)) != _stripped(value)
    }
    if differing:
        upload.do(what, "written", lambda: update(metadata, differing))
    else:
        upload.there(what)


def _stripped(value: object) -> object:
    return value.strip() if isinstance(value, str) else value or None


@contextlib.contextmanager
def _refusals(owner: str) -> Iterator[None]:
    """Turns what the libraries raise into one line. Their texts may have addresses with tokens."""
    try:
        yield
    except (ConfigError, OSError) as error:
        # The errors of HTTP are OSErrors with the response, or with None.
        if isinstance(error, ConfigError) or not hasattr(error, "response"):
            raise
        raise ConfigError(f"upload kaggle: {_reason(error, owner)}") from None
    except Exception as error:
        if not type(error).__module__.startswith("kagglehub"):
            raise
        raise ConfigError(
            f"upload kaggle: Kaggle refuses an upload for {owner} "
            f"({first_line(str(error), _secrets())}); check --owner, and what the token may do"
        ) from None


def _reason(error: OSError, owner: str) -> str:
    response = getattr(error, "response", None)
    if response is None:
        return f"Kaggle cannot be reached ({type(error).__name__}); check the connection"
    status = f"{response.status_code} {response.reason}"
    if response.status_code == 401:
        return f"Kaggle refuses the credentials ({status}); make a new token"
    if response.status_code == 403:
        return f"the token may not write models of {owner} ({status}); check --owner"
    return f"Kaggle answers {status}; run the same command again: it goes on where it ended"


def _secrets() -> list[str]:
    from kagglehub.config import get_kaggle_credentials

    credentials = get_kaggle_credentials()
    return [secret for secret in (credentials.key, credentials.api_key) if secret]
