"""GetModelMetadata: the signatures of a version.

Source: `get_model_metadata_impl.cc` of tensorflow/serving's servables.
"""

from tensorflow_serving.apis import get_model_metadata_pb2

from ...errors import invalid_argument
from ..servables.core import ServerCore

SIGNATURE_DEF = "signature_def"


def get_model_metadata(
    core: ServerCore,
    request: get_model_metadata_pb2.GetModelMetadataRequest,
    timeout: float | None = None,
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Answers a GetModelMetadata call.

    Raises:
        ServingError: what TF Serving answers.
    """
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise invalid_argument(f"Metadata field {field} is not supported")
    with core.handle(request.model_spec) as handle:
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in handle.servable.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = handle.version
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response
