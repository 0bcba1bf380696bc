"""The mapping between timm's keys and the model's variables."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tf_keras

from export.checkpoints.random_weights import seeded_normal
from export.errors import CheckpointError
from export.model import build_classifier
from export.names import layer_name
from export.reference.forward_pass import forward
from export.variants import VARIANTS, CaiTConfig
from export.weights import assign_weights, check_shapes, expected_shapes, read_weights

Array = npt.NDArray[np.float32]
Tensors = dict[str, Array]


@pytest.fixture(scope="module")
def classifier(tiny_config: CaiTConfig) -> tf_keras.Model:
    return build_classifier(tiny_config, "tiny")


@pytest.fixture
def assigned(
    classifier: tf_keras.Model, tiny_config: CaiTConfig, tiny_tensors: Tensors
) -> tf_keras.Model:
    """The classifier, with `tiny_tensors` whatever a test before put into it."""
    assign_weights(classifier, tiny_config, tiny_tensors)
    return classifier


def values(model: tf_keras.Model) -> dict[str, Array]:
    return {variable.name: variable.numpy() for variable in model.variables}


def test_every_variable_is_assigned(
    classifier: tf_keras.Model, tiny_config: CaiTConfig, tiny_tensors: Tensors
) -> None:
    for variable in classifier.variables:
        variable.assign(tf.fill(variable.shape, math.nan))
    assign_weights(classifier, tiny_config, tiny_tensors)
    # As many numbers as the checkpoint has, so none of it is left over either.
    assert sum(int(tf.size(v)) for v in classifier.variables) == sum(
        tensor.size for tensor in tiny_tensors.values()
    )
    for variable in classifier.variables:
        assert np.isfinite(variable.numpy()).all(), variable.name


def test_what_was_assigned_is_read_back_bit_for_bit(
    assigned: tf_keras.Model, tiny_config: CaiTConfig, tiny_tensors: Tensors
) -> None:
    read = read_weights(assigned, tiny_config)
    assert list(read) == list(expected_shapes(tiny_config))
    for key, tensor in tiny_tensors.items():
        assert read[key].dtype == np.float32
        assert read[key].flags.c_contiguous
        np.testing.assert_array_equal(read[key], tensor, err_msg=key)


def test_what_was_read_is_assigned_to_another_model(
    assigned: tf_keras.Model, tiny_config: CaiTConfig
) -> None:
    other = build_classifier(tiny_config, "other")
    assign_weights(other, tiny_config, read_weights(assigned, tiny_config))
    for one, two in zip(assigned.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one, two, err_msg=one.name)


# Where a matrix is square, reading back would not show that both ways have it the wrong way round.
@pytest.mark.parametrize(
    ("key", "block", "layer", "attribute", "convert"),
    [
        ("blocks.1.attn.proj.weight", "sa_ffn_block_1", "attn_proj", "kernel", np.transpose),
        ("blocks.0.attn.qkv.weight", "sa_ffn_block_0", "attn_qkv", "kernel", np.transpose),
        ("blocks.1.attn.proj_l.weight", "sa_ffn_block_1", "attn_proj_l", "kernel", np.copy),
        ("blocks.0.attn.proj_w.weight", "sa_ffn_block_0", "attn_proj_w", "kernel", np.copy),
        ("blocks_token_only.1.attn.q.weight", "ca_ffn_block_1", "attn_q", "kernel", np.transpose),
        ("blocks_token_only.0.attn.k.weight", "ca_ffn_block_0", "attn_k", "kernel", np.transpose),
        ("blocks_token_only.0.attn.v.weight", "ca_ffn_block_0", "attn_v", "kernel", np.transpose),
        ("blocks_token_only.1.mlp.fc1.bias", "ca_ffn_block_1", "mlp_fc1", "bias", np.copy),
        ("blocks.1.norm2.weight", "sa_ffn_block_1", "norm2", "gamma", np.copy),
        ("blocks.1.norm2.bias", "sa_ffn_block_1", "norm2", "beta", np.copy),
        ("blocks.1.gamma_1", "sa_ffn_block_1", "gamma_1", "kernel", np.atleast_2d),
        ("blocks.0.attn.proj_w.bias", "sa_ffn_block_0", "attn_proj_w_bias", "kernel", None),
        ("norm.weight", None, "norm", "gamma", np.copy),
        ("head.weight", None, "head", "kernel", np.transpose),
        ("pos_embed", None, "pos_embed", "kernel", np.squeeze),
    ],
)
def test_tensors_arrive_where_and_how_they_belong(
    key: str,
    block: str | None,
    layer: str,
    attribute: str,
    convert: Callable[[Array], Array] | None,
    assigned: tf_keras.Model,
    tiny_tensors: Tensors,
) -> None:
    found = getattr(assigned.get_layer(layer_name(block or "", layer)), attribute).numpy()
    wanted = convert(tiny_tensors[key]) if convert else tiny_tensors[key][:, np.newaxis]
    np.testing.assert_array_equal(found, wanted)


def test_the_convolution_has_height_and_width_first(
    assigned: tf_keras.Model, tiny_tensors: Tensors
) -> None:
    kernel = assigned.get_layer("patch_embed").kernel.numpy()
    tensor = tiny_tensors["patch_embed.proj.weight"]
    assert kernel.shape == (16, 16, 3, 16)
    for row, column, channel, output in ((0, 0, 0, 0), (3, 11, 2, 7), (11, 3, 1, 15)):
        assert kernel[row, column, channel, output] == tensor[output, channel, row, column]


@pytest.mark.parametrize(
    "key",
    [
        "patch_embed.proj.weight",
        "blocks.0.attn.proj.weight",
        "blocks.1.attn.proj_l.weight",
        "blocks.1.attn.proj_w.weight",
        "blocks_token_only.0.attn.q.weight",
        "blocks_token_only.0.attn.k.weight",
        "blocks_token_only.1.attn.v.weight",
        "blocks_token_only.1.attn.proj.weight",
    ],
)
def test_a_tensor_the_wrong_way_round_is_seen_in_the_outputs(
    key: str, assigned: tf_keras.Model, tiny_config: CaiTConfig, tiny_tensors: Tensors
) -> None:
    # Fits the shape, so only the outputs can tell. The bound is 100 times the one that the
    # comparison with the reference allows.
    images = seeded_normal("orientation", (2, 32, 32, 3))
    wanted = forward(tiny_tensors, images).logits
    assert wanted is not None
    assert np.abs(assigned(images)[0] - wanted).max() < 1e-5
    turned = np.ascontiguousarray(np.swapaxes(tiny_tensors[key], -1, -2))
    assign_weights(assigned, tiny_config, {**tiny_tensors, key: turned})
    assert np.abs(assigned(images)[0] - wanted).max() > 1e-3


def changed(tensors: Tensors, key: str, value: Array | None) -> Tensors:
    """Tensors with one of them replaced, added, or (None) left out."""
    result = {**tensors, key: value} if value is not None else dict(tensors)
    if value is None:
        del result[key]
    return result


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        # The last rows of the table: what is assigned in its order would be assigned by then.
        (
            "blocks_token_only.1.attn.v.bias",
            None,
            "missing tensor 'blocks_token_only.1.attn.v.bias'; expected shape (16,)",
        ),
        (
            "blocks.2.gamma_1",
            np.zeros(16, np.float32),
            "unknown tensor 'blocks.2.gamma_1' of shape (16,); expected no such key",
        ),
        (
            "module.cls_token",
            np.zeros((1, 1, 16), np.float32),
            "unknown tensor 'module.cls_token' of shape (1, 1, 16); expected no such key",
        ),
        (
            "blocks_token_only.1.mlp.fc1.weight",
            np.zeros((16, 64), np.float32),
            "tensor 'blocks_token_only.1.mlp.fc1.weight' has shape (16, 64); expected (64, 16)",
        ),
        (
            "pos_embed",
            np.zeros((1, 5, 16), np.float32),
            "tensor 'pos_embed' has shape (1, 5, 16); expected (1, 4, 16)",
        ),
    ],
    ids=["missing", "unknown", "prefixed", "transposed", "positions"],
)
def test_what_does_not_fit_is_named_and_nothing_is_assigned(
    key: str,
    value: Array | None,
    problem: str,
    classifier: tf_keras.Model,
    tiny_config: CaiTConfig,
    tiny_tensors: Tensors,
) -> None:
    for variable in classifier.variables:
        variable.assign(tf.ones(variable.shape))
    with pytest.raises(CheckpointError) as caught:
        assign_weights(classifier, tiny_config, changed(tiny_tensors, key, value))
    assert str(caught.value) == f"weights for tiny: {problem}"
    for variable in classifier.variables:
        assert (variable.numpy() == 1).all(), variable.name


def test_of_many_problems_the_first_is_told_and_the_rest_counted(
    tiny_config: CaiTConfig,
) -> None:
    shapes = expected_shapes(tiny_config)
    without_head: dict[str, Any] = {
        key: shape for key, shape in shapes.items() if not key.startswith("head.")
    }
    with pytest.raises(CheckpointError) as caught:
        check_shapes({**without_head, "norm.weight": (17,)}, tiny_config, "subject")
    assert str(caught.value) == (
        "subject: missing tensor 'head.weight'; expected shape (10, 16) (and 2 more such problems)"
    )
    check_shapes(shapes, tiny_config, "subject")


def test_expected_shapes_of_a_variant_in_timm_s_words() -> None:
    shapes = expected_shapes(VARIANTS["cait_xs24_384"].config)
    for key, shape in {
        "cls_token": (1, 1, 288),
        "pos_embed": (1, 576, 288),
        "patch_embed.proj.weight": (288, 3, 16, 16),
        "blocks.23.gamma_1": (288,),
        "blocks.23.attn.qkv.weight": (864, 288),
        "blocks.23.attn.qkv.bias": (864,),
        "blocks.23.attn.proj_l.weight": (6, 6),
        "blocks.23.attn.proj_w.bias": (6,),
        "blocks.23.mlp.fc1.weight": (1152, 288),
        "blocks.23.mlp.fc2.weight": (288, 1152),
        "blocks_token_only.1.attn.q.weight": (288, 288),
        "norm.bias": (288,),
        "head.weight": (1000, 288),
    }.items():
        assert shapes[key] == shape, key
    # 6 of the model and its head, 18 in each block of either kind: 24 and 2.
    assert len(shapes) == 8 + 24 * 18 + 2 * 18
    assert not {"blocks.24.gamma_1", "blocks_token_only.2.gamma_1"} & set(shapes)
