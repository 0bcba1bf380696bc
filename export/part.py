"""Finding the CaiT and its head in a Keras model that somebody has built and trained."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tf_keras
from tf_keras import layers

from .architecture import own_variant, same_blocks
from .errors import UserError
from .names import ca_block_name, layer_name, sa_block_name
from .variants import CaiTConfig, Variant
from .weights import Array, WeightMapping, layer_names, read_arrays

# They change nothing of the features in inference.
_PASS_THROUGH = (
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.AlphaDropout,
    layers.Flatten,
)
# With softmax as its activation a layer has the weights of the logits.
_ACTIVATIONS = ("linear", "softmax")


@dataclasses.dataclass(frozen=True)
class CaiTPart:
    """A CaiT in a Keras model.

    Attributes:
        layer: the CaiT: a Keras model with its layers, or a `hub.KerasLayer`.
        head: a Dense layer behind its features; None where the CaiT has its own head, or there is
            none.
        config: its sizes, with the classes of the head.
        variant: the variant with these blocks, at the same image size if there is such; or an
            architecture of one's own.
    """

    layer: Any
    head: "layers.Dense | None"
    config: CaiTConfig
    variant: Variant

    def read_weights(self) -> dict[str, Array]:
        """The weights by timm's keys, in timm's layout: float32."""
        return read_arrays(self.config, self._array)

    def _array(self, block: str | None, mapping: WeightMapping) -> Array:
        variable = (
            getattr(self.head, mapping.attribute)
            if self.head is not None and mapping.layer == "head"
            else _find_variable(self.layer, block, mapping.layer, mapping.attribute)
        )
        # A head without a bias adds zeros.
        if variable is None:
            return np.zeros(self.config.num_classes, np.float32)
        array: Array = variable.numpy()
        return array


def find_part(model: tf_keras.Model) -> CaiTPart:
    """Finds the CaiT in a model, and checks that a checkpoint can hold all that was trained.

    Args:
        model: of `create_cait` or `load_model`; or a functional or Sequential model with one of
            them, or with a `hub.KerasLayer` of one, in it.

    Raises:
        UserError: there is no CaiT in it or several, the model has weights that are not its, or it
            has not been built.
    """
    if not model.built:
        # Its layers have no weights yet, as if they never had any.
        raise UserError(
            f"model {model.name!r}: it has not been built; expected one that was fitted, or called "
            "on images"
        )
    found = list(_parts(model))
    if len(found) != 1:
        raise UserError(
            f"model {model.name!r}: it has {len(found) or 'no'} CaiTs; expected one model of "
            "create_cait or load_model, or one hub.KerasLayer of a published version, whole and "
            "with its own names of layers"
        )
    (part,) = found
    config = _config_of(part, model.name)
    head = _head_behind(model, part, config)
    if head is not None:
        config = dataclasses.replace(config, num_classes=head.units)
    variant = same_blocks(config, part.name) or own_variant(config)
    return CaiTPart(part, head, config, variant)


def _parts(layer: Any) -> Iterator[Any]:
    """The CaiTs in a model, the outermost models of them first."""
    if all(_find_variable(layer, None, name, "kernel") is not None for name in _OUTSIDE):
        yield layer
        return
    for inner in getattr(layer, "layers", ()):
        yield from _parts(inner)


_OUTSIDE = ("patch_embed", "pos_embed", "cls_token")


def _is_hub_layer(layer: Any) -> bool:
    # Not imported: it is an extra.
    return type(layer).__name__ == "KerasLayer" and hasattr(layer, "resolved_object")


def _find_variable(part: Any, block: str | None, layer: str, attribute: str) -> Any:
    """A variable of a CaiT; None where there is none."""
    if _is_hub_layer(part):
        name = "/".join(filter(None, (block, layer, attribute)))
        return next((v for v in part.variables if v.name == f"{name}:0"), None)
    if not isinstance(part, tf_keras.Model):
        return None
    found = [inner for inner in part.layers if inner.name == layer_name(block or "", layer)]
    return getattr(found[0], attribute, None) if found else None


def _config_of(part: Any, name: str) -> CaiTConfig:
    """The sizes of a CaiT, by its variables.

    Raises:
        UserError: it has no blocks, so it is a part of one.
    """

    def shape(block: str | None, layer: str, attribute: str = "kernel") -> tuple[int, ...] | None:
        variable = _find_variable(part, block, layer, attribute)
        return None if variable is None else tuple(variable.shape)

    sa_blocks = ca_blocks = 0
    while shape(sa_block_name(sa_blocks), "attn_proj_l"):
        sa_blocks += 1
    while shape(ca_block_name(ca_blocks), "attn_q"):
        ca_blocks += 1
    if not (sa_blocks and ca_blocks and shape(None, "norm", "gamma")):
        raise UserError(
            f"model {name!r}: a part of a CaiT, with {sa_blocks} self-attention and {ca_blocks} "
            "class-attention blocks; expected all blocks and the normalisation behind them"
        )
    patch_size, _, _, embed_dim = shape(None, "patch_embed") or (0, 0, 0, 0)
    patches, _ = shape(None, "pos_embed") or (0, 0)
    heads, _ = shape(sa_block_name(0), "attn_proj_l") or (0, 0)
    _, num_classes = shape(None, "head") or (0, 0)
    return CaiTConfig(
        image_size=math.isqrt(patches) * patch_size,
        patch_size=patch_size,
        embed_dim=embed_dim,
        heads=heads,
        sa_blocks=sa_blocks,
        ca_blocks=ca_blocks,
        num_classes=num_classes,
    )


def _head_behind(model: Any, part: Any, config: CaiTConfig) -> "layers.Dense | None":
    """The Dense layer that a model has in the place of the CaiT's own head.

    Raises:
        UserError: the model has other weights, or the layer does something else.
    """
    own = {layer_name(block or "", layer) for block, layer in layer_names(config)}
    others = [
        layer
        for layer in _leaves(model, part)
        if layer.weights and not (layer.name in own and _holds(part, layer))
    ]
    if not others:
        for layer in _leaves(part, None):
            if layer.name == "head":
                _check_activation(model, layer)
        return None
    names = ", ".join(f"{layer.name!r} ({type(layer).__name__})" for layer in others)
    subject = f"model {model.name!r}: it has weights that are not the CaiT's, of {names}"
    if config.num_classes:
        raise UserError(f"{subject}, beside the CaiT's own head; expected none of them")
    head = others[0]
    width = config.embed_dim
    if len(others) > 1 or type(head) is not layers.Dense or head.kernel.shape[0] != width:
        raise UserError(
            f"{subject}; expected at most a Dense layer from its {width} features to the classes"
        )
    _check_activation(model, head)
    _check_input(model, part, head)
    return head


def _check_activation(model: Any, head: "layers.Dense") -> None:
    activation = tf_keras.activations.serialize(head.activation)
    if activation not in _ACTIVATIONS:
        raise UserError(
            f"model {model.name!r}: the activation of {head.name!r} is {activation}; expected "
            f"{' or '.join(_ACTIVATIONS)}"
        )


def _check_input(model: Any, part: Any, head: "layers.Dense") -> None:
    """Checks that nothing changes the features on their way to the head.

    Raises:
        UserError: something does, or nothing is known of it.
    """
    layer = head
    while True:
        nodes = layer.inbound_nodes
        before = nodes[0].inbound_layers if nodes else None
        if before is None or isinstance(before, list):
            what = "nothing says what" if before is None else "several layers"
            raise UserError(
                f"model {model.name!r}: {what} {layer.name!r} is called with; expected a "
                "functional or Sequential model, with the features"
            )
        if before is part or (before.name == "norm" and _holds(part, before)):
            return
        if not isinstance(before, _PASS_THROUGH):
            raise UserError(
                f"model {model.name!r}: {before.name!r} ({type(before).__name__}) is between the "
                f"features and {head.name!r}; expected the features, or Dropout"
            )
        layer = before


def _holds(part: Any, layer: Any) -> bool:
    return any(inner is layer for inner in getattr(part, "layers", ()))


def _leaves(layer: Any, part: Any) -> Iterator[Any]:
    """The layers that hold weights themselves, but for those in a nested CaiT."""
    inner = getattr(layer, "layers", None)
    if inner is None:
        if layer is not part:
            yield layer
        return
    for each in inner:
        if each is not part:
            yield from _leaves(each, part)
