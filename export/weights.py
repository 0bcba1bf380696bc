"""The one mapping between timm's keys and the model's variables.

It is a table of `WeightMapping`. The rest of this module checks a checkpoint against the table, or
applies it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import CheckpointError
from .names import ca_block_name, layer_name, sa_block_name
from .variants import MLP_RATIO, CaiTConfig

if TYPE_CHECKING:
    # Importing TensorFlow takes seconds, and checking a checkpoint does not need it.
    import tf_keras

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]


def _same(tensor: Array) -> Array:
    return tensor


def _transpose(tensor: Array) -> Array:
    """PyTorch: (outputs, inputs). Keras: (inputs, outputs)."""
    return tensor.T


def _convolution(tensor: Array) -> Array:
    """PyTorch: (outputs, inputs, height, width). Keras: (height, width, inputs, outputs)."""
    return tensor.transpose(2, 3, 1, 0)


def _row(tensor: Array) -> Array:
    """A vector, with or without leading dimensions of size 1, as the only row of a kernel."""
    return tensor.reshape(1, -1)


def _column(tensor: Array) -> Array:
    """A vector as the only column of a kernel."""
    return tensor.reshape(-1, 1)


def _rows(tensor: Array) -> Array:
    """Without the batch dimension of size 1."""
    return tensor.reshape(tensor.shape[1:])


class WeightMapping(NamedTuple):
    """A tensor of a checkpoint and the variable for it.

    Attributes:
        key: timm's key, within its block.
        shape: timm's shape, in letters: D embedding size, H heads, K classes, M hidden units of
            an MLP, N patches, P patch size, Q three times D.
        layer: name of the Keras layer, within its block.
        attribute: the layer's attribute with the variable.
        convert: from timm's layout to Keras's.
    """

    key: str
    shape: str
    layer: str
    attribute: str
    convert: Callable[[Array], Array]


def _linear(key: str, layer: str, outputs: str, inputs: str) -> tuple[WeightMapping, WeightMapping]:
    return (
        WeightMapping(f"{key}.weight", outputs + inputs, layer, "kernel", _transpose),
        WeightMapping(f"{key}.bias", outputs, layer, "bias", _same),
    )


def _norm(key: str) -> tuple[WeightMapping, WeightMapping]:
    return (
        WeightMapping(f"{key}.weight", "D", key, "gamma", _same),
        WeightMapping(f"{key}.bias", "D", key, "beta", _same),
    )


def _talking_heads(key: str, layer: str) -> tuple[WeightMapping, WeightMapping]:
    # Not transposed: the model multiplies by (H, H) from the left, as PyTorch's layout has it.
    return (
        WeightMapping(f"{key}.weight", "HH", layer, "kernel", _same),
        WeightMapping(f"{key}.bias", "H", f"{layer}_bias", "kernel", _column),
    )


_OUTSIDE_BLOCKS = (
    WeightMapping("patch_embed.proj.weight", "D3PP", "patch_embed", "kernel", _convolution),
    WeightMapping("patch_embed.proj.bias", "D", "patch_embed", "bias", _same),
    WeightMapping("pos_embed", "1ND", "pos_embed", "kernel", _rows),
    WeightMapping("cls_token", "11D", "cls_token", "kernel", _row),
    *_norm("norm"),
)
_HEAD = _linear("head", "head", "K", "D")
_BLOCK = (
    *_norm("norm1"),
    *_linear("attn.proj", "attn_proj", "D", "D"),
    WeightMapping("gamma_1", "D", "gamma_1", "kernel", _row),
    *_norm("norm2"),
    *_linear("mlp.fc1", "mlp_fc1", "M", "D"),
    *_linear("mlp.fc2", "mlp_fc2", "D", "M"),
    WeightMapping("gamma_2", "D", "gamma_2", "kernel", _row),
)
_SELF_ATTENTION_BLOCK = (
    *_BLOCK,
    *_linear("attn.qkv", "attn_qkv", "Q", "D"),
    *_talking_heads("attn.proj_l", "attn_proj_l"),
    *_talking_heads("attn.proj_w", "attn_proj_w"),
)
_CLASS_ATTENTION_BLOCK = (
    *_BLOCK,
    *_linear("attn.q", "attn_q", "D", "D"),
    *_linear("attn.k", "attn_k", "D", "D"),
    *_linear("attn.v", "attn_v", "D", "D"),
)


def mappings(config: CaiTConfig) -> Iterator[tuple[str, str | None, WeightMapping]]:
    """Every tensor of a checkpoint: timm's key, its block (None: outside of the blocks), and its
    mapping.
    """
    for mapping in _OUTSIDE_BLOCKS + (_HEAD if config.num_classes else ()):
        yield mapping.key, None, mapping
    for block in range(config.sa_blocks):
        for mapping in _SELF_ATTENTION_BLOCK:
            yield f"blocks.{block}.{mapping.key}", sa_block_name(block), mapping
    for block in range(config.ca_blocks):
        for mapping in _CLASS_ATTENTION_BLOCK:
            yield f"blocks_token_only.{block}.{mapping.key}", ca_block_name(block), mapping


def expected_shapes(config: CaiTConfig) -> dict[str, Shape]:
    """Timm's key -> shape in timm's layout, for every tensor of a configuration's checkpoint."""
    sizes = {
        "1": 1,
        "3": 3,
        "D": config.embed_dim,
        "H": config.heads,
        "K": config.num_classes,
        "M": MLP_RATIO * config.embed_dim,
        "N": config.patches,
        "P": config.patch_size,
        "Q": 3 * config.embed_dim,
    }
    return {
        key: tuple(sizes[letter] for letter in mapping.shape)
        for key, _, mapping in mappings(config)
    }


def check_shapes(found: Mapping[str, Shape], config: CaiTConfig, subject: str) -> None:
    """Checks that a checkpoint has the keys and shapes that a configuration needs.

    Args:
        found: key -> shape.
        config: the configuration.
        subject: the checkpoint, as the error's first words.

    Raises:
        CheckpointError: a key is missing or unknown, or a shape is wrong. It names the first
            problem.
    """
    expected = expected_shapes(config)
    problems = [
        f"missing tensor {key!r}; expected shape {shape}"
        for key, shape in expected.items()
        if key not in found
    ]
    problems += [
        f"unknown tensor {key!r} of shape {shape}; expected no such key"
        for key, shape in found.items()
        if key not in expected
    ]
    problems += [
        f"tensor {key!r} has shape {found[key]}; expected {shape}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    if problems:
        more = f" (and {len(problems) - 1} more such problems)" if len(problems) > 1 else ""
        raise CheckpointError(f"{subject}: {problems[0]}{more}")


def assign_weights(
    classifier: "tf_keras.Model", config: CaiTConfig, tensors: Mapping[str, Array]
) -> None:
    """Assigns a checkpoint's tensors to a classifier's variables, one at a time.

    Args:
        classifier: what `build_classifier` returned for `config`.
        config: its configuration.
        tensors: timm's keys -> arrays in timm's layout.

    Raises:
        CheckpointError: a key is missing or unknown, or a shape is wrong. Nothing is assigned.
    """
    shapes = getattr(tensors, "shapes", None) or {key: tensors[key].shape for key in tensors}
    check_shapes(shapes, config, f"weights for {classifier.name}")
    unset = {id(variable) for variable in classifier.variables}
    for key, block, mapping in mappings(config):
        variable = _variable(classifier, block, mapping)
        variable.assign(mapping.convert(tensors[key]))
        unset.remove(id(variable))
    assert not unset, f"{len(unset)} variables of the model are in no mapping"


def layer_names(config: CaiTConfig) -> set[tuple[str | None, str]]:
    """The layers with weights: the block (None: outside of the blocks), and the name within it."""
    return {(block, mapping.layer) for _, block, mapping in mappings(config)}


def read_weights(classifier: "tf_keras.Model", config: CaiTConfig) -> dict[str, Array]:
    """A classifier's weights by timm's keys, in timm's layout: the inverse of `assign_weights`."""
    return read_arrays(config, lambda *where: _variable(classifier, *where).numpy())


def read_arrays(
    config: CaiTConfig, array_of: Callable[[str | None, WeightMapping], Array]
) -> dict[str, Array]:
    """Weights by timm's keys, in timm's layout.

    Args:
        config: the sizes.
        array_of: a block (None: outside of the blocks) and a mapping -> the array in Keras's
            layout.
    """
    expected = expected_shapes(config)
    result = {}
    for key, block, mapping in mappings(config):
        value = array_of(block, mapping)
        if mapping.convert is _transpose:
            value = value.T
        elif mapping.convert is _convolution:
            value = value.transpose(3, 2, 0, 1)
        result[key] = np.ascontiguousarray(value.reshape(expected[key]))
    return result


def _variable(
    classifier: "tf_keras.Model", block: str | None, mapping: WeightMapping
) -> "tf_keras.Variable":
    layer = classifier.get_layer(layer_name(block or "", mapping.layer))
    return getattr(layer, mapping.attribute)
