"""Uploading to Kaggle Models, with `kagglehub`.

Every model of a tree is a variation of one model, `<owner>/cait/tensorFlow2/<variation>`. Kaggle
numbers versions itself, and a version there never changes. So a version is known by the manifest
among its files, whatever its number.

Credentials, and where they come from, are the library's: KAGGLE_API_TOKEN, KAGGLE_USERNAME with
KAGGLE_KEY, or a file below ~/.kaggle. It is imported at the first use.
"""

import contextlib
import io
import json
import logging
import pathlib
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ..errors import ConfigError
from ..hub.kaggle import FRAMEWORK, MODEL, instance_metadata, model_metadata, variation
from ..tree.manifest import ManifestError, parse_manifest
from ..tree.paths import MANIFEST, SIGNATURE
from ..tree.published import PublishedModel
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
        hub = _Kaggle(upload.owner)
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


def _upload_versions(upload: Upload, hub: "_Kaggle", versions: Sequence[PublishedModel]) -> None:
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


class _Kaggle:
    """A user's models on Kaggle."""

    def __init__(self, owner: str) -> None:
        try:
            import kagglehub
            from kagglehub.clients import build_kaggle_client
            from kagglehub.config import get_kaggle_credentials
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"upload kaggle: {error.name} is not installed; run pip install "
                "'cait-serving[upload]'"
            ) from None
        logging.getLogger("kagglehub").setLevel(logging.ERROR)
        try:
            credentials = get_kaggle_credentials()
        except ValueError as error:
            raise ConfigError(f"upload kaggle: {first_line(str(error), ())}") from None
        if credentials is None:
            raise ConfigError(
                "upload kaggle: no credentials; expected KAGGLE_API_TOKEN, or KAGGLE_USERNAME and "
                "KAGGLE_KEY, or a file ~/.kaggle/access_token or ~/.kaggle/kaggle.json; Kaggle's "
                "settings page makes a token"
            )
        self._library, self._client = kagglehub, build_kaggle_client
        self.owner = owner
        self.handle = f"{owner}/{MODEL}"

    def handle_of(self, model: PublishedModel) -> str:
        return f"{self.handle}/{FRAMEWORK}/{variation(model)}"

    def model(self) -> Any:
        """What Kaggle has of the model; None for nothing."""
        from kagglesdk.models.types.model_api_service import ApiGetModelRequest

        request = ApiGetModelRequest()
        request.owner_slug, request.model_slug = self.owner, MODEL
        return self._found("get_model", request)

    def variation(self, model: PublishedModel) -> Any:
        """What Kaggle has of a model's variation, with its latest version; None for nothing."""
        from kagglesdk.models.types.model_api_service import ApiGetModelInstanceRequest

        return self._found("get_model_instance", self._of(model, ApiGetModelInstanceRequest()))

    def versions(
        self, model: PublishedModel, names: Collection[str]
    ) -> dict[int, dict[str, bytes]]:
        """Kaggle's number of each version of a variation -> those of some files that it has."""
        found = self.variation(model)
        return {
            number: {
                name: content
                for name in names
                if (content := self._read(f"{self.handle_of(model)}/{number}", name)) is not None
            }
            for number in range(1, (found.version_number if found else 0) + 1)
        }

    def create_model(self) -> None:
        from kagglesdk.models.types.model_api_service import ApiCreateModelRequest

        request = ApiCreateModelRequest()
        request.owner_slug, request.slug, request.title = self.owner, MODEL, "CaiT"
        request.is_private = True
        self._change("create_model", request)

    def upload(self, model: PublishedModel) -> None:
        metadata = json.loads(instance_metadata(self.owner, model, "hub"))
        with contextlib.nullcontext() if sys.stderr.isatty() else _without_bars():
            self._library.model_upload(
                self.handle_of(model),
                str(model.directory),
                license_name=metadata["licenseName"],
                version_notes=f"Version {model.version} of {model.model}",
            )

    def update_model(self, metadata: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        from kagglesdk.models.types.model_api_service import ApiUpdateModelRequest

        request = ApiUpdateModelRequest()
        request.owner_slug, request.model_slug = self.owner, MODEL
        self._update("update_model", request, fields)

    def update_variation(self, metadata: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        from kagglesdk.models.types.model_api_service import ApiUpdateModelInstanceRequest

        request = ApiUpdateModelInstanceRequest()
        request.owner_slug, request.model_slug = self.owner, MODEL
        request.framework = _framework()
        request.instance_slug = metadata["instanceSlug"]
        self._update("update_model_instance", request, fields)

    def _update(self, call: str, request: Any, fields: Mapping[str, Any]) -> None:
        from google.protobuf.field_mask_pb2 import FieldMask

        for name, value in fields.items():
            setattr(request, name, value)
        request.update_mask = FieldMask(paths=list(fields))
        self._change(call, request)

    def _of(self, model: PublishedModel, request: Any) -> Any:
        request.owner_slug, request.model_slug = self.owner, MODEL
        request.framework, request.instance_slug = _framework(), variation(model)
        return request

    def _found(self, call: str, request: Any) -> Any:
        from kagglehub.exceptions import handle_call

        with self._client() as client:
            return _if_found(
                lambda: handle_call(lambda: getattr(client.models.model_api_client, call)(request))
            )

    def _change(self, call: str, request: Any) -> None:
        from kagglehub.exceptions import handle_mutate_call

        with self._client() as client:
            handle_mutate_call(lambda: getattr(client.models.model_api_client, call)(request))

    def _read(self, handle: str, name: str) -> bytes | None:
        with tempfile.TemporaryDirectory() as directory, _without_bars():
            path = _if_found(
                lambda: self._library.model_download(handle, path=name, output_dir=directory)
            )
            return None if path is None else pathlib.Path(path).read_bytes()


def _without_bars() -> contextlib.AbstractContextManager[object]:
    """Keeps the library from drawing its progress bars, for which it has no setting."""
    return contextlib.redirect_stderr(io.StringIO())


def _if_found(call: Callable[[], Any]) -> Any:
    """What a call returns; None for what is not there, for which Kaggle answers 403, too."""
    from kagglehub.exceptions import KaggleApiHTTPError

    try:
        return call()
    except KaggleApiHTTPError as error:
        if error.response is not None and error.response.status_code in (403, 404):
            return None
        raise


def _framework() -> Any:
    from kagglesdk.models.types.model_enums import ModelFramework

    return ModelFramework.MODEL_FRAMEWORK_TENSOR_FLOW_2


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
