"""Products in bfloat16, and signatures for several requests: what changes, and what does not."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from export.compute import SERVING_PROFILES, Compute, ServingProfile
from export.convert import convert
from export.variants import CaiTConfig
from pipelines.gate.tolerances import TOLERANCES
from signatures import BOTH, Head, signatures_for
from tests.support.arrays import Serve, Tensors

IMAGES = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
PRODUCTS = {"MatMul", "BatchMatMulV2"}


@pytest.fixture(scope="module")
def converted(
    tiny_config: CaiTConfig, tiny_tensors: Tensors, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Compute], dict[Head, pathlib.Path]]:
    """`tiny_models` that compute otherwise, each made once."""
    root = tmp_path_factory.mktemp("computed")

    def make(compute: Compute) -> dict[Head, pathlib.Path]:
        kept = root / f"{compute.dtype}-{compute.profile}"
        directories = {head: kept / head for head in BOTH}
        if not kept.exists():
            list(convert("tiny", tiny_config, tiny_tensors, directories, compute=compute))
        return directories

    return make


@pytest.fixture(params=SERVING_PROFILES)
def profile(request: pytest.FixtureRequest) -> ServingProfile:
    found: ServingProfile = request.param
    return found


@pytest.fixture
def narrow_models(
    converted: Callable[[Compute], dict[Head, pathlib.Path]], profile: ServingProfile
) -> dict[Head, pathlib.Path]:
    """As `tiny_models`, with products in bfloat16."""
    return converted(Compute("bfloat16", profile))


@pytest.mark.parametrize("head", BOTH)
def test_signatures_answer_in_float32_and_nearly_the_same(
    head: Head,
    tiny_config: CaiTConfig,
    tiny_served: dict[Head, Serve],
    narrow_models: dict[Head, pathlib.Path],
    serve_from: Callable[[pathlib.Path], Serve],
) -> None:
    serve = serve_from(narrow_models[head])
    block = np.array([1, 0, 1], np.int32)
    for name, signature in signatures_for(head, tiny_config.geometry).items():
        inputs = {"images": IMAGES, "block": block}
        wanted = {tensor.name for tensor in signature.inputs}
        if not wanted <= inputs.keys():
            continue
        request = {key: value for key, value in inputs.items() if key in wanted}
        found, expected = serve(name, **request), tiny_served[head](name, **request)
        assert found.keys() == expected.keys()
        for key, value in found.items():
            assert value.dtype == np.float32
            difference = np.abs(value - expected[key]).max()
            assert 0 < difference <= TOLERANCES["bfloat16"].of(key), (name, key)


@pytest.mark.parametrize("head", BOTH)
def test_weights_and_the_call_as_a_layer_are_those_of_float32(
    head: Head, tiny_models: dict[Head, pathlib.Path], narrow_models: dict[Head, pathlib.Path]
) -> None:
    before, after = (variables(models[head]) for models in (tiny_models, narrow_models))
    own = {key: after.pop(key) for key in after.keys() - before.keys()}
    assert all(np.array_equal(after[key], value) for key, value in before.items())
    assert after.keys() == before.keys()
    # Eight of each of two blocks, rounded: those that the signatures read.
    assert len(own) == 2 * 8
    rounded = {tf.cast(value, tf.bfloat16).numpy().tobytes() for value in before.values()}
    assert all(value.dtype == tf.bfloat16.as_numpy_dtype for value in own.values())
    assert {value.tobytes() for value in own.values()} <= rounded

    pairs = zip(call(tiny_models[head]), call(narrow_models[head]), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def variables(model: pathlib.Path) -> dict[str, npt.NDArray[Any]]:
    """All variables of a SavedModel, by their keys in its checkpoint."""
    reader = tf.train.load_checkpoint(str(model / "variables" / "variables"))
    keys = [key for key in reader.get_variable_to_shape_map() if key.endswith("VARIABLE_VALUE")]
    return {key: reader.get_tensor(key) for key in keys}


def call(model: pathlib.Path) -> list[npt.NDArray[np.float32]]:
    outputs = tf.saved_model.load(str(model))(tf.constant(IMAGES))
    return [tensor.numpy() for tensor in tf.nest.flatten(outputs)]


def test_a_model_for_several_requests_has_the_same_weights_and_answers(
    converted: Callable[[Compute], dict[Head, pathlib.Path]],
    tiny_models: dict[Head, pathlib.Path],
    tiny_served: dict[Head, Serve],
    serve_from: Callable[[pathlib.Path], Serve],
) -> None:
    model = converted(Compute(profile="throughput"))["classifier"]
    for path in (tiny_models["classifier"] / "variables").iterdir():
        assert path.read_bytes() == (model / "variables" / path.name).read_bytes()
    serve = serve_from(model)
    found, expected = (s("logits", images=IMAGES) for s in (serve, tiny_served["classifier"]))
    np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-5)
    request = {"images": IMAGES, "block": np.array([1, 0, 1], np.int32)}
    found, expected = (s("self_attention", **request) for s in (serve, tiny_served["classifier"]))
    np.testing.assert_allclose(found["attention"], expected["attention"], atol=1e-5)
    streams = [
        [node.op for node in function.node_def].count("Softmax")
        for function in library(model)
        if "sa_ffn_block" in function.signature.name and "attn_qkv" not in str(function.signature)
    ]
    assert set(streams) == {1}


def library(model: pathlib.Path) -> Sequence[Any]:
    """The functions of a SavedModel."""
    content = (model / "saved_model.pb").read_bytes()
    functions: Sequence[Any] = (
        saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def.library.function
    )
    return functions


def test_products_are_narrow_and_softmax_is_not(
    narrow_models: dict[Head, pathlib.Path], profile: ServingProfile
) -> None:
    narrow = [
        function
        for function in library(narrow_models["classifier"])
        if any(
            node.op in PRODUCTS and node.attr["T"].type == types_pb2.DT_BFLOAT16
            for node in function.node_def
        )
    ]
    # One that gives the attention of its block, and one that does not.
    assert len(narrow) == 2
    streams = {"latency": 2, "throughput": 1}[profile]
    for function in narrow:
        kinds = [(node.op, node.attr["T"].type) for node in function.node_def]
        products = [kind for op, kind in kinds if op in PRODUCTS]
        assert products == [types_pb2.DT_BFLOAT16] * streams * 8
        wide = [kind for op, kind in kinds if op in ("Softmax", "Mean", "Rsqrt", "Sum")]
        # Softmax and two norms in each stream, and the values' sum.
        assert len(wide) == streams * (1 + 3 * 2) + 1
        assert set(wide) == {types_pb2.DT_FLOAT}
        # No weights are cast in a request, but the small ones that mix heads.
        arguments = {argument.name for argument in function.signature.input_arg}
        cast = [
            node for node in function.node_def if node.op == "Cast" and arguments & {*node.input}
        ]
        assert len(cast) <= 2
