"""The calls of `ModelService`: states of versions, and reloading the config.

Source: `get_model_status_impl.cc` and `model_service_impl.cc` of tensorflow/serving.
"""

from collections.abc import Callable

from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

from ...errors import invalid_argument, not_found
from ..servables.core import ServerCore


def get_model_status(
    core: ServerCore,
    request: get_model_status_pb2.GetModelStatusRequest,
    timeout: float | None = None,
) -> get_model_status_pb2.GetModelStatusResponse:
    """Answers a GetModelStatus call: one version, or all since the start, the latest first.

    Raises:
        ServingError: what TF Serving answers.
    """
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    name = request.model_spec.name
    statuses = core.statuses(name)
    if request.model_spec.WhichOneof("version_choice") == "version":
        version = request.model_spec.version.value
        if version not in statuses:
            raise not_found(f"Could not find version {version} of model {name}")
        statuses = {version: statuses[version]}
    elif not statuses:
        raise not_found(f"Could not find any versions of model {name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, status in statuses.items():
        entry = response.model_version_status.add(version=version, state=int(status.state))
        entry.status.SetInParent()
        if status.error is not None:
            entry.status.error_code = int(status.error.code)
            entry.status.error_message = status.error.message
    return response


def handle_reload_config(
    core: ServerCore,
    request: model_management_pb2.ReloadConfigRequest,
    timeout: float | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> model_management_pb2.ReloadConfigResponse:
    """Answers a HandleReloadConfigRequest call once the new models of the config are available.

    Args:
        core: the models.
        request: the new config.
        timeout: seconds left to the call; None is no limit.
        cancelled: called now and then; the call ends when it returns True.

    Raises:
        ServingError: what TF Serving answers.
    """
    if request.config.WhichOneof("config") != "model_config_list":
        raise invalid_argument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest."
            " Only ModelConfigList is currently supported"
        )
    core.reload(request.config, timeout, cancelled)
    response = model_management_pb2.ReloadConfigResponse()
    response.status.SetInParent()
    return response
