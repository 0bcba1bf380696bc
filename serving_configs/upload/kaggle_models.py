"""A user's models on Kaggle, as `kagglehub` and its SDK reach them."""

import contextlib
import io
import json
import logging
import pathlib
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..errors import ConfigError
from ..hub.kaggle import FRAMEWORK, MODEL, instance_metadata, variation
from ..tree.published import PublishedModel
from .local import first_line


class KaggleModels:
    """The one model of a user, whose variations are the models of a tree.

    Args:
        owner: the user or organisation.

    Attributes:
        owner: as above.
        handle: of the model.

    Raises:
        ConfigError: the library or credentials are missing.
    """

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
        """The handle of a model's variation."""
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
        """Creates the model. It is private until its owner publishes it."""
        from kagglesdk.models.types.model_api_service import ApiCreateModelRequest

        request = ApiCreateModelRequest()
        request.owner_slug, request.slug, request.title = self.owner, MODEL, "CaiT"
        request.is_private = True
        self._change("create_model", request)

    def upload(self, model: PublishedModel) -> None:
        """Uploads a version, as the next one of its variation, which is created where needed."""
        metadata = json.loads(instance_metadata(self.owner, model, "hub"))
        with contextlib.nullcontext() if sys.stderr.isatty() else _without_bars():
            self._library.model_upload(
                self.handle_of(model),
                str(model.directory),
                license_name=metadata["licenseName"],
                version_notes=f"Version {model.version} of {model.model}",
            )

    def update_model(self, metadata: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        """Changes fields of the model's page."""
        from kagglesdk.models.types.model_api_service import ApiUpdateModelRequest

        request = ApiUpdateModelRequest()
        request.owner_slug, request.model_slug = self.owner, MODEL
        self._update("update_model", request, fields)

    def update_variation(self, metadata: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        """Changes fields of the page of the variation that the metadata names."""
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
