"""What clients send and what they make of the replies: functions without a connection.

Each call is a `Call`: which method of which service, the request, and how its reply is read. The
clients only send it.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ..tensors import Array, to_proto
from . import replies as client_replies
from .calls import ByImage, Call
from .images import EncodedImage, check_images, images_in, read_images
from .types import Images, Label, Metadata, ModelSpec, VersionStatus

ENCODED = "bytes_"
"""How the names of the signatures begin that take encoded images, as their input `IMAGE_BYTES`."""
IMAGE_BYTES = "image_bytes"


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
        InvalidImagesError: encoded images that no model takes.
        ValueError: an input is no tensor.
        OSError: an image's file cannot be read.
    """
    template = predict_pb2.PredictRequest(
        model_spec=_model_spec(model, signature), output_filter=outputs
    )
    images = None
    if not isinstance(inputs, Mapping):
        arrays = _normalised(inputs)
        if arrays is None:
            images = read_images(inputs, "images")
        inputs = {"images": arrays}
    elif signature.startswith(ENCODED) and inputs.keys() == {IMAGE_BYTES}:
        images = images_in(inputs[IMAGE_BYTES], IMAGE_BYTES)
    if images is not None:
        return _predict_encoded(template, images)
    for name, value in inputs.items():
        to_proto(_tensor(name, value), template.inputs[name])
    return Call("Predict", template, client_replies.arrays)


def classify(model: ModelSpec, images: Images) -> Call[list[tuple[Label, ...]]]:
    """The best classes of encoded images.

    Raises:
        InvalidImagesError: some are none that a model takes.
        ValueError: they are not encoded images.
        OSError: an image's file cannot be read.
    """
    read = read_images(images, "classify")
    check_images(read)

    def request(places: Iterable[int]) -> classification_pb2.ClassificationRequest:
        request = classification_pb2.ClassificationRequest(
            model_spec=_model_spec(model, "classify")
        )
        for place in places:
            example = request.input.example_list.examples.add()
            example.features.feature["image/encoded"].bytes_list.value.append(read[place].data)
        return request

    everything = range(len(read))
    by_image = ByImage(tuple(image.path for image in read), request, client_replies.join_labels)
    return Call("Classify", request(everything), client_replies.labels, by_image)


def class_attention(model: ModelSpec, images: Images) -> Call[dict[int, Array]]:
    """Class attention by block, of images in either form.

    Raises:
        InvalidImagesError: encoded images that no model takes.
        ValueError: they are no images.
        OSError: an image's file cannot be read.
    """
    form = ENCODED if _normalised(images) is None else ""
    call = predict(model, images, f"{form}class_attention")
    by_image: ByImage[dict[int, Array]] | None = None
    if call.by_image is not None:
        by_image = ByImage(call.by_image.paths, call.by_image.request, client_replies.join_arrays)
    return Call(call.method, call.request, client_replies.class_attention, by_image)


def self_attention(model: ModelSpec, images: Images, block: int | Sequence[int]) -> Call[Array]:
    """Self-attention of one block for each image.

    Raises:
        ValueError: the images are not normalised ones, or there is another number of blocks.
    """
    arrays = _normalised(images)
    if arrays is None:
        raise ValueError("self_attention takes normalised images (B, S, S, 3), not encoded ones")
    count = len(arrays)
    blocks = np.asarray(block, np.int32)
    if blocks.shape not in ((), (count,)):
        raise ValueError(f"{len(np.atleast_1d(blocks))} blocks for {count} images")
    inputs = {"images": arrays, "block": np.broadcast_to(blocks, (count,))}
    call = predict(model, inputs, "self_attention")
    return Call(call.method, call.request, lambda reply: client_replies.arrays(reply)["attention"])


def metadata(model: ModelSpec) -> Call[Metadata]:
    """The signatures of a version."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=_model_spec(model), metadata_field=[client_replies.SIGNATURE_DEF]
    )
    return Call("GetModelMetadata", request, client_replies.metadata)


def status(model: ModelSpec) -> Call[list[VersionStatus]]:
    """The versions of a model, the latest first."""
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=_model_spec(model))
    return Call("GetModelStatus", request, client_replies.statuses)


def _normalised(images: Images) -> Array | None:
    """The images (B, S, S, 3) as they are sent; None for encoded ones, or what is meant to be."""
    if not isinstance(images, np.ndarray) or images.dtype.kind in "OSU":
        return None
    if images.ndim != 4 or images.dtype.kind != "f":
        raise ValueError(
            f"images: {images.dtype} of shape {images.shape}; expected float32 (B, S, S, 3), "
            "normalised with ImageNet's mean and deviation"
        )
    return images.astype(np.float32, copy=False)


def _predict_encoded(
    template: predict_pb2.PredictRequest, images: Sequence[EncodedImage]
) -> Call[dict[str, Array]]:
    check_images(images)

    def request(places: Iterable[int]) -> predict_pb2.PredictRequest:
        request = predict_pb2.PredictRequest()
        request.CopyFrom(template)
        to_proto(_strings([images[place].data for place in places]), request.inputs[IMAGE_BYTES])
        return request

    everything = range(len(images))
    by_image: ByImage[dict[str, Array]] = ByImage(
        tuple(image.path for image in images), request, client_replies.join_arrays
    )
    return Call("Predict", request(everything), client_replies.arrays, by_image)


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
        return _strings([image.data for image in read_images(value, name)])
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
