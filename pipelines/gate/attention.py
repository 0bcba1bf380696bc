"""The gate's comparison of attention: all blocks of the call, some of the signature."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from export.memory import trim_memory
from export.names import attention_name, sa_block_name
from export.variants import CaiTConfig

from .comparison import CALL, Differences, check_shape
from .interface import GateError
from .loaded_model import LoadedModel
from .mixed_batch import mirrored
from .prepared_image import PreparedImage

Array = npt.NDArray[Any]


def run_self_attention(
    model: LoadedModel, image: PreparedImage, config: CaiTConfig
) -> dict[int, Array]:
    """Runs `self_attention` for the first, the middle and the last block.

    Returns:
        The attention (1, H, N, N) of the image by block.
    """
    last = config.sa_blocks - 1
    blocks = sorted({0, last // 2, last})
    # Another image is among them, so that an answer that mixes neighbours is seen.
    stack = np.concatenate([mirrored(image.images), *[image.images] * len(blocks)])
    requested = np.array([blocks[len(blocks) // 2], *blocks], np.int32)
    attention = model.run("self_attention", images=stack, block=requested)["attention"]
    trim_memory()
    return {block: attention[i : i + 1] for i, block in enumerate(blocks, 1)}


def compare_call(
    differences: Differences,
    image: PreparedImage,
    called: tuple[Any, ...],
    sampled: Mapping[int, Array],
    config: CaiTConfig,
    main_output: str,
) -> None:
    """Compares all that a call returned, and what the `self_attention` signature did.

    Args:
        differences: takes what is found.
        image: the image of both.
        called: see `LoadedModel.call`. Its self-attention is taken out of it.
        sampled: see `run_self_attention`.
        config: what the model was built from.
        main_output: `logits` or `features`.

    Raises:
        GateError: an output is missing, unexpected or of a wrong shape.
    """
    main, self_attention, class_attention = called
    blocks = {attention_name(sa_block_name(i)): i for i in range(config.sa_blocks)}
    if self_attention.keys() != blocks.keys():
        wrong = ", ".join(sorted(self_attention.keys() ^ blocks.keys()))
        raise GateError(f"{CALL}: missing or unexpected outputs {wrong}")
    compared = [(CALL, name) for name in blocks]
    compared += [("self_attention", "attention") for _ in sampled]
    found = [(number, np.asarray(self_attention[name])) for name, number in blocks.items()]
    found += sampled.items()
    # Nobody else has them now, and they are freed one by one.
    self_attention.clear()
    size = config.geometry
    shape = (1, size.heads, size.patches, size.patches)
    for (signature, output), (_, array) in zip(compared, found, strict=True):
        check_shape(signature, output, array, shape, image.name)
    del array
    found_differences = image.self_attention_differences(found)
    for (signature, output), difference in zip(compared, found_differences, strict=True):
        differences.record(signature, output, difference, image.name)
    outputs = {main_output: main.numpy()}
    outputs |= {name: tensor.numpy() for name, tensor in class_attention.items()}
    differences.compare_all(CALL, outputs, image.expected_by_name, image.name)
