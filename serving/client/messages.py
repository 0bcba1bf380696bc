"""The requests that clients send and how their replies are read, without a connection.

Each is a `Call`: the method of the service, the request, and the function that reads its reply.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

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

from signatures.contract import EXAMPLE_IMAGE_KEY

from ..tensors import Array, to_proto
from . import replies
from .calls import ByImage, Call
from .images import EncodedImage, check_images, images_in, read_images
from .types import Images, Label, Metadata, ModelSpec, VersionStatus

T = TypeVar("T")

ENCODED = "bytes_"
"""Prefix of the signatures that take encoded images, as their input `IMAGE_BYTES`."""
IMAGE_BYTES = "image_bytes"


def methods(channel: Any) -> dict[str, Callable[..., Any]]:
    """The methods of both services by name, as a `Call` names them."""
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    return {
        "Predict": predictions.Predict,
        "Classify": predictions.Classify,
        "GetModelMetadata": predictions.GetModelMetadata,
        "GetModelStatus": models.GetModelStatus,
    }


class Calls:
    """The calls of one model; arguments and errors are those of the methods of `Client`."""

    def __init__(self, model: ModelSpec) -> None:
        self._model = model

    def predict(
        self,
        inputs: Mapping[str, Any] | Images,
        signature: str,
        outputs: Iterable[str] = (),
    ) -> Call[dict[str, Array]]:
        """A call of any signature of the method predict."""
        template = predict_pb2.PredictRequest(
            model_spec=_model_spec(self._model, signature), output_filter=outputs
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
        return Call("Predict", template, replies.arrays)

    def classify(self, images: Images) -> Call[list[tuple[Label, ...]]]:
        """The best classes of encoded images."""
        read = read_images(images, "classify")
        if not read:
            raise ValueError("classify: no images; expected at least one")

        def request(places: Iterable[int]) -> classification_pb2.ClassificationRequest:
            request = classification_pb2.ClassificationRequest(
                model_spec=_model_spec(self._model, "classify")
            )
            for place in places:
                example = request.input.example_list.examples.add()
                example.features.feature[EXAMPLE_IMAGE_KEY].bytes_list.value.append(
                    read[place].data
                )
            return request

        return _call_by_image("Classify", read, request, replies.labels, replies.join_labels)

    def class_attention(self, images: Images) -> Call[dict[int, Array]]:
        """Class attention by block, of normalised or encoded images."""
        form = ENCODED if _normalised(images) is None else ""
        call = self.predict(images, f"{form}class_attention")
        by_image: ByImage[dict[int, Array]] | None = None
        if call.by_image is not None:
            by_image = ByImage(call.by_image.paths, call.by_image.request, replies.join_arrays)
        return Call(call.method, call.request, replies.class_attention, by_image)

    def self_attention(self, images: Images, block: int | Sequence[int]) -> Call[Array]:
        """Self-attention of one block for each image."""
        arrays = _normalised(images)
        if arrays is None:
            raise ValueError(
                "self_attention takes normalised images (B, S, S, 3), not encoded ones"
            )
        count = len(arrays)
        blocks = np.asarray(block, np.int32)
        if blocks.shape not in ((), (count,)):
            raise ValueError(f"{len(np.atleast_1d(blocks))} blocks for {count} images")
        inputs = {"images": arrays, "block": np.broadcast_to(blocks, (count,))}
        call = self.predict(inputs, "self_attention")
        return Call(call.method, call.request, lambda reply: replies.arrays(reply)["attention"])

    def metadata(self) -> Call[Metadata]:
        """The signatures of a version."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=_model_spec(self._model), metadata_field=[replies.SIGNATURE_DEF]
        )
        return Call("GetModelMetadata", request, replies.metadata)

    def status(self) -> Call[list[VersionStatus]]:
        """The versions of a model, the latest first."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_model_spec(self._model))
        return Call("GetModelStatus", request, replies.statuses)


def _normalised(images: Images) -> Array | None:
    """Normalised images (B, S, S, 3) as float32; None if the argument is anything else.

    Raises:
        ValueError: an array of numbers that are not normalised images.
    """
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
    def request(places: Iterable[int]) -> predict_pb2.PredictRequest:
        request = predict_pb2.PredictRequest()
        request.CopyFrom(template)
        to_proto(_strings([images[place].data for place in places]), request.inputs[IMAGE_BYTES])
        return request

    return _call_by_image("Predict", images, request, replies.arrays, replies.join_arrays)


def _call_by_image(
    method: str,
    images: Sequence[EncodedImage],
    request: Callable[[Sequence[int]], Any],
    read: Callable[[Any], T],
    join: Callable[[Sequence[tuple[int, T]]], T],
) -> Call[T]:
    """A call for encoded images; see `ByImage`.

    Raises:
        InvalidImagesError: no model takes some of them.
    """
    check_images(images)
    by_image = ByImage(tuple(image.path for image in images), request, join)
    return Call(method, request(range(len(images))), read, by_image)


def _model_spec(model: ModelSpec, signature: str = "") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=model.name, signature_name=signature)
    if model.version is not None:
        spec.version.value = model.version
    if model.label is not None:
        spec.version_label = model.label
    return spec


def _tensor(name: str, value: Any) -> Array:
    """An input as an array: bytes and the files of paths as strings, all else by NumPy's rules."""
    if isinstance(value, bytes | os.PathLike) or (
        isinstance(value, list | tuple) and value and isinstance(value[0], bytes | os.PathLike)
    ):
        return _strings([image.data for image in read_images(value, name)])
    array: Array = np.asarray(value)
    if array.dtype.kind in "SU":
        strings = [text if isinstance(text, bytes) else text.encode() for text in array.flat]
        return _strings(strings).reshape(array.shape)
    if array.dtype.kind == "O" and not all(isinstance(entry, bytes) for entry in array.flat):
        raise ValueError(f"{name}: neither a rectangular array of numbers nor bytes")
    return array


def _strings(data: Sequence[bytes]) -> npt.NDArray[np.object_]:
    # NumPy's fixed-width strings would drop zero bytes at the end of an image.
    array = np.empty(len(data), object)
    array[:] = data
    return array
