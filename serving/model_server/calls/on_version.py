"""What the calls of one model share: finding the version that they name and keeping it loaded.

Source: `predict_impl.cc`, `classification_service.cc` and `regression_service.cc` of
tensorflow/serving's servables.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from ...errors import invalid_argument
from ..servables.core import ServerCore
from ..servables.servable import Servable

RequestT = TypeVar("RequestT", bound=Any)
ResponseT = TypeVar("ResponseT", bound=Any)


def on_version(
    core: ServerCore,
    request: RequestT,
    run: Callable[[Servable, RequestT, float | None], ResponseT],
    timeout: float | None,
) -> ResponseT:
    """Runs a request on the version that it names, and adds the version's number to the response.

    Args:
        core: the models.
        request: a message with a `model_spec`.
        run: answers the request on a version; its response has a `model_spec` too.
        timeout: seconds left to the call; None is no limit.

    Raises:
        ServingError: INVALID_ARGUMENT or NOT_FOUND, no such model or version; what `run` raises.
    """
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    with core.handle(request.model_spec) as handle:
        response = run(handle.servable, request, timeout)
        response.model_spec.version.value = handle.version
        return response
