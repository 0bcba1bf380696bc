"""Signatures as other tools read them: TFLite's converter with its built-in operations alone."""

import pathlib

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from signatures import BOTH, Head
from tests.support.arrays import IMAGES

pytestmark = pytest.mark.slow

Array = npt.NDArray[np.float32]
Models = dict[Head, pathlib.Path]

SIGNATURES = [
    ("classifier", "logits"),
    ("classifier", "class_attention"),
    ("features", "features"),
]


def convert(directory: pathlib.Path, signature: str, *types: tf.DType, narrow: bool) -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(directory), signature_keys=[signature])
    if narrow:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = list(types)
    content: bytes = converter.convert()
    return content


def run(content: bytes, signature: str, images: Array) -> dict[str, Array]:
    interpreter = tf.lite.Interpreter(model_content=content)
    outputs: dict[str, Array] = interpreter.get_signature_runner(signature)(images=images)
    return outputs


@pytest.mark.parametrize(("head", "signature"), SIGNATURES)
def test_tflite_computes_what_a_signature_does(
    head: Head, signature: str, tiny_models: Models
) -> None:
    function = tf.saved_model.load(str(tiny_models[head])).signatures[signature]
    content = convert(tiny_models[head], signature, narrow=False)
    for images in (IMAGES[:1], IMAGES):
        found = run(content, signature, images)
        wanted = function(images=tf.constant(images))
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("types", "atol"), [((), 0.1), ((tf.float16,), 0.01)])
def test_tflite_s_smaller_weights(
    types: tuple[tf.DType, ...], atol: float, tiny_models: Models
) -> None:
    directory = tiny_models["classifier"]
    content = convert(directory, "logits", *types, narrow=True)
    wanted = tf.saved_model.load(str(directory)).signatures["logits"](images=tf.constant(IMAGES))
    found = run(content, "logits", IMAGES)
    np.testing.assert_allclose(found["logits"], wanted["logits"], rtol=0, atol=atol)


@pytest.mark.parametrize("head", BOTH)
def test_signatures_have_no_operation_that_onnx_lacks(head: Head, tiny_models: Models) -> None:
    # The call as a layer has Keras's GELU, by `Erfc`; converters do not read it.
    loaded = tf.saved_model.load(str(tiny_models[head]))
    for name in ("logits", "class_attention") if head == "classifier" else ("features",):
        graph = loaded.signatures[name].graph.as_graph_def()
        called = {function.signature.name: function for function in graph.library.function}
        waiting, seen = [graph.node], set()
        while waiting:
            for node in waiting.pop():
                seen.add(node.op)
                for value in node.attr.values():
                    if value.HasField("func") and value.func.name in called:
                        waiting.append(called.pop(value.func.name).node_def)
        assert "Erf" in seen
        assert not seen & {"Erfc", "Einsum"}
