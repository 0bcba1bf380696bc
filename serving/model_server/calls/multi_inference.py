"""MultiInference: several Classify and Regress signatures on the same examples.

Source: `multi_inference.cc` of tensorflow/serving's servables.
"""

from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import inference_pb2, model_pb2

from ...errors import Code, ServingError, invalid_argument
from ..servables.core import ServerCore
from ..servables.servable import DEFAULT_SIGNATURE, Servable
from . import classify, regress
from .examples import serialised_examples


def multi_inference(
    core: ServerCore, request: inference_pb2.MultiInferenceRequest, timeout: float | None = None
) -> inference_pb2.MultiInferenceResponse:
    """Answers a MultiInference call. The first task says which version all of them run on.

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
    """Several Classify and Regress signatures on the same input, in one run of the graph.

    Signatures that read the examples from tensors of their own are all fed the same ones.

    Raises:
        ServingError: what TF Serving answers.
    """
    signatures: dict[str, meta_graph_pb2.SignatureDef] = {}
    model = ""
    feeds: set[str] = set()
    fetches: set[str] = set()
    for task in request.tasks:
        if not task.model_spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if model and model != task.model_spec.name:
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        model = task.model_spec.name
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in signatures:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        if name not in servable.signatures:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        signatures[name] = servable.signatures[name]
        if task.method_name == classify.METHOD:
            input_name, names = classify.classification_tensors(signatures[name])
        elif task.method_name == regress.METHOD:
            input_name, names = regress.regression_tensors(signatures[name])
        else:
            raise ServingError(
                Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
            )
        feeds.add(input_name)
        fetches.update(names)
    examples = serialised_examples(request.input)
    ordered = sorted(fetches)
    values = servable.run(dict.fromkeys(feeds, examples), ordered, timeout)
    by_name = dict(zip(ordered, values, strict=True))
    response = inference_pb2.MultiInferenceResponse()
    for task, (name, signature) in zip(request.tasks, signatures.items(), strict=True):
        result = response.results.add()
        result.model_spec.name = model
        result.model_spec.signature_name = name
        if task.method_name == classify.METHOD:
            classify.write_classes(signature, len(examples), by_name, result.classification_result)
        else:
            regress.write_regressions(signature, len(examples), by_name, result.regression_result)
    return response
