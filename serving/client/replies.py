"""Reads replies, and joins answers for some images each to one answer for all of them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from signatures.untrained import is_marked_untrained

from ..tensors import Array, to_array
from .types import Label, Metadata, SignatureMetadata, TensorMetadata, VersionStatus

Key = TypeVar("Key", str, int)

SIGNATURE_DEF = "signature_def"
"""The only field that GetModelMetadata has."""


def arrays(reply: predict_pb2.PredictResponse) -> dict[str, Array]:
    """The outputs by name."""
    return {name: to_array(proto) for name, proto in reply.outputs.items()}


def class_attention(reply: predict_pb2.PredictResponse) -> dict[int, Array]:
    """The outputs `ca_ffn_block_<i>_att` by i, in order."""
    numbers = {
        int(name.removeprefix("ca_ffn_block_").removesuffix("_att")): array
        for name, array in arrays(reply).items()
        if name.startswith("ca_ffn_block_")
    }
    return dict(sorted(numbers.items()))


def labels(reply: classification_pb2.ClassificationResponse) -> list[tuple[Label, ...]]:
    """The classes of each image."""
    return [
        tuple(Label(entry.label, entry.score) for entry in image.classes)
        for image in reply.result.classifications
    ]


def join_labels(parts: Sequence[tuple[int, list[tuple[Label, ...]]]]) -> list[tuple[Label, ...]]:
    """Joins lists of labels.

    Args:
        parts: numbers of images, and the labels of that many images.

    Raises:
        ValueError: a list has another length than its number of images.
    """
    if any(len(of_images) != count for count, of_images in parts):
        raise ValueError("not the classes of each image")
    return list(itertools.chain.from_iterable(of_images for _, of_images in parts))


def join_arrays(parts: Sequence[tuple[int, dict[Key, Array]]]) -> dict[Key, Array]:
    """Joins arrays along dimension 0, that of the images.

    Args:
        parts: numbers of images, and arrays by name or number for that many images.

    Raises:
        ValueError: dimension 0 of an array is not its number of images.
    """
    if any(array.shape[:1] != (count,) for count, part in parts for array in part.values()):
        raise ValueError("not a value for each image")
    return {key: np.concatenate([part[key] for _, part in parts]) for key in parts[0][1]}


def metadata(reply: get_model_metadata_pb2.GetModelMetadataResponse) -> Metadata:
    """The version that answered and its signatures."""
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
            # TensorFlow's loader uses these itself.
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


def statuses(reply: get_model_status_pb2.GetModelStatusResponse) -> list[VersionStatus]:
    """The versions, in the reply's order."""
    state = get_model_status_pb2.ModelVersionStatus.State
    return [
        VersionStatus(entry.version, state.Name(entry.state), entry.status.error_message)
        for entry in reply.model_version_status
    ]
