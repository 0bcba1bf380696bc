"""Products in bfloat16: what changes, and what does not."""

import pathlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from export.convert import convert
from export.variants import CaiTConfig
from pipelines.gate.tolerances import TOLERANCES
from signatures import BOTH, Head, signatures_for
from tests.support.arrays import Serve, Tensors

IMAGES = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
PRODUCTS = {"MatMul", "BatchMatMulV2"}


@pytest.fixture(scope="module")
def narrow_models(
    tiny_config: CaiTConfig, tiny_tensors: Tensors, tmp_path_factory: pytest.TempPathFactory
) -> dict[Head, pathlib.Path]:
    """As `tiny_models`, with products in bfloat16."""
    root = tmp_path_factory.mktemp("narrow")
    directories = {head: root / head for head in BOTH}
    for _ in convert("tiny", tiny_config, tiny_tensors, directories, dtype="bfloat16"):
        pass
    return directories


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
    for path in (tiny_models[head] / "variables").iterdir():
        assert path.read_bytes() == (narrow_models[head] / "variables" / path.name).read_bytes()

    def call(directory: pathlib.Path) -> list[npt.NDArray[np.float32]]:
        outputs = tf.saved_model.load(str(directory))(tf.constant(IMAGES))
        return [tensor.numpy() for tensor in tf.nest.flatten(outputs)]

    pairs = zip(call(tiny_models[head]), call(narrow_models[head]), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_products_are_narrow_and_softmax_is_not(narrow_models: dict[Head, pathlib.Path]) -> None:
    content = (narrow_models["classifier"] / "saved_model.pb").read_bytes()
    library = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def.library
    narrow = [
        function
        for function in library.function
        if any(node.attr["T"].type == types_pb2.DT_BFLOAT16 for node in function.node_def)
    ]
    # One that gives the attention of its block, and one that does not.
    assert len(narrow) == 2
    for function in narrow:
        kinds = [(node.op, node.attr["T"].type) for node in function.node_def]
        products = [kind for op, kind in kinds if op in PRODUCTS]
        assert products == [types_pb2.DT_BFLOAT16] * 2 * 8
        wide = [kind for op, kind in kinds if op in ("Softmax", "Mean", "Rsqrt", "Sum")]
        # Softmax and two norms in each of two streams, and the values' sum.
        assert len(wide) == 2 * (1 + 3 * 2) + 1
        assert set(wide) == {types_pb2.DT_FLOAT}
