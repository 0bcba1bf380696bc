"""MultiInference: several Classify and Regress signatures on the same examples.

Source: `multi_inference.cc` of tensorflow/serving's servables.
"""

import dataclasses

from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import inference_pb2, model_pb2

from ...errors import Code, ServingError, invalid_argument
from ..servables.core import ServerCore
from ..servables.servable import DEFAULT_SIGNATURE, Servable
from .classify import CLASSIFY
from .examples import ExampleMethod, serialised_examples
from .regress import REGRESS
from .time_left import time_left

_METHODS = {method.name: method for method in (CLASSIFY, REGRESS)}


def multi_inference(
    core: ServerCore, request: inference_pb2.MultiInferenceRequest, timeout: float | None = None
) -> inference_pb2.MultiInferenceResponse:
    """Answers a MultiInference call. All tasks run on the version that the first one names.

    Raises:
        ServingError: what TF Serving answers.
    """
    spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
    with core.handle(spec) as handle:
        response = run_multi_inference(handle.servable, request, timeout)
        for result in response.results:
            result.model_spec.version.value = handle.version
        return response


def run_multi_inference(
    servable: Servable,
    request: inference_pb2.MultiInferenceRequest,
    timeout: float | None = None,
) -> inference_pb2.MultiInferenceResponse:
    """Runs all tasks on the same examples, in one run of the graph.

    Signatures that read the examples from different tensors are all fed the same ones.

    Raises:
        ServingError: what TF Serving answers.
    """
    left = time_left(timeout)
    tasks = _checked_tasks(servable, request)
    examples = serialised_examples(request.input)
    feeds = dict.fromkeys((task.feed for task in tasks), examples)
    fetches = sorted({name for task in tasks for name in task.fetches})
    by_name = dict(zip(fetches, servable.run(feeds, fetches, left()), strict=True))
    response = inference_pb2.MultiInferenceResponse()
    for task in tasks:
        result = response.results.add()
        result.model_spec.name = request.tasks[0].model_spec.name
        result.model_spec.signature_name = task.name
        written = getattr(result, task.method.result_field)
        task.method.write(task.signature, len(examples), by_name, written)
    return response


@dataclasses.dataclass(frozen=True)
class _Task:
    name: str
    signature: meta_graph_pb2.SignatureDef
    method: ExampleMethod
    feed: str
    fetches: list[str]


def _checked_tasks(servable: Servable, request: inference_pb2.MultiInferenceRequest) -> list[_Task]:
    tasks: dict[str, _Task] = {}
    for task in request.tasks:
        if not task.model_spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in tasks:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        if name not in servable.signatures:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        if task.method_name not in _METHODS:
            raise ServingError(
                Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
            )
        method, signature = _METHODS[task.method_name], servable.signatures[name]
        tasks[name] = _Task(name, signature, method, *method.tensors(signature))
    return list(tasks.values())
