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
from export.model import build_classifier
from export.saved_model import signature_weights
from export.saved_model.forward import Forward
from export.variants import VARIANTS, CaiTConfig
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
@pytest.mark.parametrize(
    ("compute", "copied"),
    [
        (Compute("bfloat16"), tf.bfloat16),
        (Compute(profile="throughput"), tf.float32),
        # Its copies are constants.
        (Compute("bfloat16", "throughput"), None),
    ],
)
def test_weights_and_the_call_as_a_layer_are_those_of_the_default(
    head: Head,
    compute: Compute,
    copied: tf.DType | None,
    tiny_models: dict[Head, pathlib.Path],
    converted: Callable[[Compute], dict[Head, pathlib.Path]],
    tiny_tensors: Tensors,
) -> None:
    model = converted(compute)[head]
    before, after = variables(tiny_models[head]), variables(model)
    own = {key: after.pop(key) for key in after.keys() - before.keys()}
    assert all(np.array_equal(after[key], value) for key, value in before.items())
    assert after.keys() == before.keys()
    # Eight of each of two blocks: those that the signatures read as variables.
    assert len(own) == (0 if copied is None else 2 * 8)
    expected = [array for block in range(2) for array in products_of(tiny_tensors, block)]
    rounding = 2**-8 if copied is tf.bfloat16 else 2**-20
    same = []
    for value in own.values():
        assert copied is not None
        assert value.dtype == copied.as_numpy_dtype
        same += [
            i
            for i, array in enumerate(expected)
            if array.shape == value.shape and np.allclose(value, array, rounding, 2**-20)
        ]
    assert sorted(same) == list(range(len(own)))

    pairs = zip(call(tiny_models[head]), call(model), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("head", BOTH)
def test_signatures_for_several_requests_have_constants(
    head: Head,
    converted: Callable[[Compute], dict[Head, pathlib.Path]],
    tiny_config: CaiTConfig,
) -> None:
    model = converted(Compute("bfloat16", "throughput"))[head]
    (main,) = [f for f in library(model) if "forward_main" in f.signature.name]
    constants = [
        node.attr["value"].tensor
        for node in main.node_def
        if node.op == "Const" and node.attr["dtype"].type == types_pb2.DT_BFLOAT16
    ]
    assert len(constants) == 2 * 8
    kernel = (tiny_config.embed_dim, 3 * tiny_config.embed_dim)
    assert [tuple(tf.make_ndarray(value).shape) for value in constants].count(kernel) == 2
    # A server has one graph of both, and so the constants once.
    output = "logits" if head == "classifier" else "features"
    signatures = meta_graph(model).signature_def
    assert signatures["serving_default"] == signatures[output]
    assert signatures["serving_default"] != signatures[f"bytes_{output}"]


def products_of(tensors: Tensors, block: int) -> list[npt.NDArray[np.float32]]:
    """Kernels and biases with the norm before the product or the LayerScale after it."""

    def of(name: str) -> npt.NDArray[np.float32]:
        return tensors[f"blocks.{block}.{name}"]

    found = []
    for norm, product in (("norm1", "attn.qkv"), ("norm2", "mlp.fc1")):
        kernel = of(f"{product}.weight").T
        found.append(kernel * of(f"{norm}.weight")[:, np.newaxis])
        found.append(of(f"{product}.bias") + of(f"{norm}.bias") @ kernel)
    for scale, product in (("gamma_1", "attn.proj"), ("gamma_2", "mlp.fc2")):
        found.append(of(f"{product}.weight").T * of(scale))
        found.append(of(f"{product}.bias") * of(scale))
    return found


def variables(model: pathlib.Path) -> dict[str, npt.NDArray[Any]]:
    """All variables of a SavedModel, by their keys in its checkpoint."""
    reader = tf.train.load_checkpoint(str(model / "variables" / "variables"))
    keys = [key for key in reader.get_variable_to_shape_map() if key.endswith("VARIABLE_VALUE")]
    return {key: reader.get_tensor(key) for key in keys}


def call(model: pathlib.Path) -> list[npt.NDArray[np.float32]]:
    outputs = tf.saved_model.load(str(model))(tf.constant(IMAGES))
    return [tensor.numpy() for tensor in tf.nest.flatten(outputs)]


def test_a_model_for_several_requests_answers_the_same(
    converted: Callable[[Compute], dict[Head, pathlib.Path]],
    tiny_served: dict[Head, Serve],
    serve_from: Callable[[pathlib.Path], Serve],
) -> None:
    model = converted(Compute(profile="throughput"))["classifier"]
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
    functions: Sequence[Any] = meta_graph(model).graph_def.library.function
    return functions


def meta_graph(model: pathlib.Path) -> Any:
    content = (model / "saved_model.pb").read_bytes()
    return saved_model_pb2.SavedModel.FromString(content).meta_graphs[0]


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
    # One that gives the attention of its block, one that does not, and one that is inlined.
    assert len(narrow) == {"latency": 2, "throughput": 3}[profile]
    streams = {"latency": 2, "throughput": 1}[profile]
    for function in narrow:
        kinds = [(node.op, node.attr["T"].type) for node in function.node_def]
        products = [kind for op, kind in kinds if op in PRODUCTS]
        assert products == [types_pb2.DT_BFLOAT16] * streams * 8
        wide = [kind for op, kind in kinds if op in ("Softmax", "Mean", "Rsqrt", "Sum")]
        # Softmax and two norms in each stream, and the values' sum.
        assert len(wide) == streams * (1 + 3 * 2) + 1
        assert set(wide) == {types_pb2.DT_FLOAT}
        # No weights are cast in a request, but the small ones that mix heads: not in latency's
        # form, and not where they are constants.
        if profile == "throughput" and function.attr["_noinline"].b:
            continue
        arguments = {argument.name for argument in function.signature.input_arg}
        casts = [node for node in function.node_def if node.op == "Cast"]
        assert sum(bool(arguments & {*node.input}) for node in casts) <= 2


def test_large_models_have_no_constants(
    tiny_config: CaiTConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_classifier(tiny_config, "tiny")
    compute = Compute("bfloat16", "throughput")
    small = Forward(model, tiny_config, compute)
    assert small.has_main
    assert not small.signature_weights.made
    assert small.signature_weights.constants is not None
    size = sum(
        value.nbytes
        for row in small.signature_weights.constants.of_block.values()
        for value in row
        if isinstance(value, np.ndarray)
    )
    monkeypatch.setattr(signature_weights, "MOST_CONSTANTS", size - 1)
    large = Forward(model, tiny_config, compute)
    assert not large.has_main
    assert len(large.signature_weights.made) == 2 * 8
    # The S variants have them, the M variants do not.
    limits = {name: 2 * 12 * c.embed_dim**2 * c.sa_blocks for name, c in _configs().items()}
    monkeypatch.undo()
    most = signature_weights.MOST_CONSTANTS
    assert {name for name, size in limits.items() if size > most} == {
        "cait_m36_384",
        "cait_m48_448",
    }


def _configs() -> dict[str, CaiTConfig]:
    return {name: variant.config for name, variant in VARIANTS.items()}
