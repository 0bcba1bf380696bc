"""What clients send and what they make of the replies: functions without a connection.

Each call is a `Call`: which method of which service, the request, and how its reply is read. The
clients only send it.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from signatures.untrained import is_marked_untrained

from .client_types import (
    Images,
    Label,
    Metadata,
    ModelSpec,
    SignatureMetadata,
    TensorMetadata,
    VersionStatus,
)
from .tensors import Array, to_array, to_proto

T = TypeVar("T")

SIGNATURE_DEF = "signature_def"


@dataclasses.dataclass(frozen=True)
class Call(Generic[T]):
    """A call that has not been made.

    Attributes:
        method: name of the method, a key of `methods`.
        request: what is sent.
        read: what the reply means.
    """

    method: str
    request: Any
    read: Callable[[Any], T]


def methods(channel: Any) -> dict[str, Callable[..., Any]]:
    """The methods of both services that a `Call` may name, by name; no two share one."""
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    return {
        "Predict": predictions.Predict,
        "Classify": predictions.Classify,
        "GetModelMetadata": predictions.GetModelMetadata,
        "GetModelStatus": models.GetModelStatus,
    }


def predict(
    model: ModelSpec,
    inputs: Mapping[str, Any] | Images,
    signature: str,
    outputs: Iterable[str] = (),
) -> Call[dict[str, Array]]:
    """Any signature of the method predict; images alone are the input that has their form.

    Raises:
        ValueError: an input is no tensor.
        OSError: an image's file cannot be read.
    """
    if not isinstance(inputs, Mapping):
        _, inputs = image_inputs(inputs)
    request = predict_pb2.PredictRequest(
        model_spec=_model_spec(model, signature), output_filter=outputs
    )
    for name, value in inputs.items():
        to_proto(_tensor(name, value), request.inputs[name])
    return Call("Predict", request, _arrays)


def classify(model: ModelSpec, images: Images) -> Call[list[tuple[Label, ...]]]:
    """The best classes of encoded images.

    Raises:
        ValueError: they are not encoded images.
        OSError: an image's file cannot be read.
    """
    request = classification_pb2.ClassificationRequest(model_spec=_model_spec(model, "classify"))
    for data in encoded(images, "classify"):
        example = example_pb2.Example()
        example.features.feature["image/encoded"].bytes_list.value.append(data)
        request.input.example_list.examples.append(example)
    return Call("Classify", request, _labels)


def class_attention(model: ModelSpec, images: Images) -> Call[dict[int, Array]]:
    """Class attention by block, of images in either form.

    Raises:
        ValueError: they are no images.
        OSError: an image's file cannot be read.
    """
    form, inputs = image_inputs(images)
    call = predict(model, inputs, f"{form}class_attention")
    return Call(call.method, call.request, lambda reply: _blocks(_arrays(reply)))


def self_attention(model: ModelSpec, images: Images, block: int | Sequence[int]) -> Call[Array]:
    """Self-attention of one block for each image.

    Raises:
        ValueError: the images are not normalised ones, or there is another number of blocks.
    """
    form, inputs = image_inputs(images)
    if form:
        raise ValueError("self_attention takes normalised images (B, S, S, 3), not encoded ones")
    count = len(inputs["images"])
    blocks = np.asarray(block, np.int32)
    if blocks.shape not in ((), (count,)):
        raise ValueError(f"{len(np.atleast_1d(blocks))} blocks for {count} images")
    inputs["block"] = np.broadcast_to(blocks, (count,))
    call = predict(model, inputs, "self_attention")
    return Call(call.method, call.request, lambda reply: _arrays(reply)["attention"])


def metadata(model: ModelSpec) -> Call[Metadata]:
    """The signatures of a version."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=_model_spec(model), metadata_field=[SIGNATURE_DEF]
    )
    return Call("GetModelMetadata", request, _metadata)


def status(model: ModelSpec) -> Call[list[VersionStatus]]:
    """The versions of a model, the latest first."""
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=_model_spec(model))
    return Call("GetModelStatus", request, _statuses)


def image_inputs(images: Images) -> tuple[str, dict[str, Any]]:
    """The signature's prefix and the inputs for images in either form.

    Raises:
        ValueError: they are no images.
        OSError: an image's file cannot be read.
    """
    if not isinstance(images, np.ndarray) or images.dtype.kind in "OSU":
        return "bytes_", {"image_bytes": _strings(encoded(images, "images"))}
    if images.ndim != 4 or images.dtype.kind != "f":
        raise ValueError(
            f"images: {images.dtype} of shape {images.shape}; expected float32 (B, S, S, 3), "
            "normalised with ImageNet's mean and deviation"
        )
    return "", {"images": images.astype(np.float32, copy=False)}


def encoded(images: Images, what: str) -> list[bytes]:
    """Encoded images as bytes; one image is a batch of one.

    Raises:
        ValueError: something is neither bytes nor a path.
        OSError: a file cannot be read.
    """
    if isinstance(images, bytes | str | os.PathLike):
        images = [images]
    data = []
    for image in images:
        if isinstance(image, bytes):
            data.append(image)
        elif isinstance(image, str | os.PathLike):
            data.append(pathlib.Path(image).read_bytes())
        else:
            raise ValueError(
                f"{what}: {type(image).__name__}; expected the bytes or the path of a JPEG or PNG"
            )
    return data


def _model_spec(model: ModelSpec, signature: str = "") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=model.name, signature_name=signature)
    if model.version is not None:
        spec.version.value = model.version
    if model.label is not None:
        spec.version_label = model.label
    return spec


def _tensor(name: str, value: Any) -> Array:
    """An input as it is sent: bytes and paths as strings, everything else as NumPy has it."""
    if isinstance(value, bytes | os.PathLike) or (
        isinstance(value, list | tuple) and value and isinstance(value[0], bytes | os.PathLike)
    ):
        return _strings(encoded(value, name))
    array: Array = np.asarray(value)
    if array.dtype.kind in "SU":
        strings = [text if isinstance(text, bytes) else text.encode() for text in array.flat]
        return _strings(strings).reshape(array.shape)
    if array.dtype.kind == "O" and not all(isinstance(entry, bytes) for entry in array.flat):
        raise ValueError(f"{name}: neither numbers of one shape nor bytes")
    return array


def _strings(data: Sequence[bytes]) -> npt.NDArray[np.object_]:
    # Fixed-width strings of NumPy would lose zeros at the end of an image.
    array = np.empty(len(data), object)
    array[:] = data
    return array


def _arrays(reply: predict_pb2.PredictResponse) -> dict[str, Array]:
    return {name: to_array(proto) for name, proto in reply.outputs.items()}


def _blocks(arrays: dict[str, Array]) -> dict[int, Array]:
    """`ca_ffn_block_<i>_att` by i, in order."""
    numbers = {
        int(name.removeprefix("ca_ffn_block_").removesuffix("_att")): array
        for name, array in arrays.items()
        if name.startswith("ca_ffn_block_")
    }
    return dict(sorted(numbers.items()))


def _labels(reply: classification_pb2.ClassificationResponse) -> list[tuple[Label, ...]]:
    return [
        tuple(Label(entry.label, entry.score) for entry in image.classes)
        for image in reply.result.classifications
    ]


def _metadata(reply: get_model_metadata_pb2.GetModelMetadataResponse) -> Metadata:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    reply.metadata[SIGNATURE_DEF].Unpack(signatures)
    return Metadata(
        reply.model_spec.name,
        reply.model_spec.version.value,
        {
            name: SignatureMetadata(
                definition.method_name, _tensors(definition.inputs), _tensors(definition.outputs)
            )
            for name, definition in sorted(signatures.signature_def.items())
            # Of the loader, for TensorFlow itself.
            if not name.startswith("__saved_model")
        },
        is_marked_untrained(signatures.signature_def),
    )


def _tensors(tensors: Mapping[str, Any]) -> dict[str, TensorMetadata]:
    return {
        name: TensorMetadata(
            types_pb2.DataType.Name(info.dtype).removeprefix("DT_").lower(),
            None
            if info.tensor_shape.unknown_rank
            else tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim),
        )
        for name, info in sorted(tensors.items())
    }


def _statuses(reply: get_model_status_pb2.GetModelStatusResponse) -> list[VersionStatus]:
    state = get_model_status_pb2.ModelVersionStatus.State
    return [
        VersionStatus(entry.version, state.Name(entry.state), entry.status.error_message)
        for entry in reply.model_version_status
    ]
