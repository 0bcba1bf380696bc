"""SavedModels on the disk, their functions, and a server, which runs signatures in a session."""

import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from export.checkpoints.random_weights import random_tensors
from export.convert import Converted, convert
from export.reference.forward_pass import forward
from export.variants import CaiTConfig
from export.weights import expected_shapes
from signatures import BOTH, CLASSIFY_METHOD, PREDICT_METHOD, Head, signatures_for
from tests.support.arrays import IMAGES, Serve
from tests.support.paths import DATA

pytestmark = pytest.mark.slow

Array = npt.NDArray[np.float32]
Tensors = dict[str, Array]
Models = dict[Head, pathlib.Path]

CAT = (DATA / "photos" / "cat.jpg").read_bytes()


def meta_graph(directory: pathlib.Path) -> Any:
    content = (directory / "saved_model.pb").read_bytes()
    (meta_graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    return meta_graph


# What is on the disk.


@pytest.mark.parametrize("head", BOTH)
def test_files_of_a_saved_model(head: Head, tiny_models: Models) -> None:
    found = {
        str(path.relative_to(tiny_models[head]))
        for path in tiny_models[head].rglob("*")
        if path.is_file()
    }
    assert found == {
        "saved_model.pb",
        "keras_metadata.pb",
        "fingerprint.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
    }


@pytest.mark.parametrize("head", BOTH)
def test_methods_are_the_contract_s(head: Head, tiny_models: Models) -> None:
    methods = {
        name: definition.method_name
        for name, definition in meta_graph(tiny_models[head]).signature_def.items()
        if not name.startswith("__")
    }
    assert methods.pop("classify", None) == (CLASSIFY_METHOD if head == "classifier" else None)
    assert set(methods.values()) == {PREDICT_METHOD}


@pytest.mark.parametrize("head", BOTH)
def test_nothing_needs_a_compiler_or_python(head: Head, tiny_models: Models) -> None:
    # TF Serving's binaries have XLA for CPUs switched off, and no Python at all.
    graph = meta_graph(tiny_models[head]).graph_def
    functions = list(graph.library.function)
    assert len(functions) > 10
    for function in functions:
        # By iteration: looking up a key in a map of messages would add it.
        compiled = [v.b for name, v in function.attr.items() if name == "_XlaMustCompile"]
        assert not any(compiled), function.signature.name
    nodes = [*graph.node, *(node for function in functions for node in function.node_def)]
    assert not {node.op for node in nodes if "PyFunc" in node.op or "Xla" in node.op}


@pytest.mark.parametrize("head", BOTH)
def test_xla_leaves_self_attention_alone(head: Head, tiny_models: Models) -> None:
    # Where a server lets it compile: it would do so for every number of images in a block.
    graph = meta_graph(tiny_models[head])
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    output = graph.signature_def["self_attention"].outputs["attention"].name.partition(":")[0]
    (call,) = (node for node in graph.graph_def.node if node.name == output)
    left, seen, alone = [call], set(), 0
    while left:
        for name in {value.func.name for value in left.pop().attr.values()} & functions.keys():
            if name in seen:
                continue
            seen.add(name)
            left += functions[name].node_def
            for node in functions[name].node_def:
                if "MatMul" in node.op or "Einsum" in node.op:
                    assert "_XlaCompile" in node.attr, (name, node.name)
                    assert not node.attr["_XlaCompile"].b, (name, node.name)
                    alone += 1
    assert alone


@pytest.mark.parametrize("head", BOTH)
def test_blocks_of_a_kind_share_one_function(head: Head, tiny_models: Models) -> None:
    # The loading time and the size of a model would grow with each copy of a block.
    functions = meta_graph(tiny_models[head]).graph_def.library.function
    products = [
        sum(node.op.startswith("BatchMatMul") for node in function.node_def)
        for function in functions
    ]
    # A class-attention block has two products; a self-attention block two of the talking heads'
    # weights and two of the attention. Both are there as the layers have them, and as signatures
    # run them: self-attention in two streams, with the attention and without.
    assert sorted(count for count in products if count) == [2, 2, 4, 8, 8]
    # Who calls them: the function that signatures share, `self_attention`, and the call as a layer
    # with every block's attention and without.
    calls = [
        sum(node.attr["f"].func.name.startswith("__inference_sa_") for node in function.node_def)
        for function in functions
    ]
    assert [count for count in calls if count] == 4 * [2]


@pytest.mark.parametrize("head", BOTH)
def test_the_function_of_the_signatures_returns_no_self_attention(
    head: Head, tiny_models: Models
) -> None:
    # A function holds its outputs until it returns: up to 1.8 GiB for an image.
    functions = meta_graph(tiny_models[head]).graph_def.library.function
    (shared,) = (f for f in functions if re.match(r"__inference_forward_\d", f.signature.name))
    callers = {
        re.sub("__inference_|_[0-9]+$", "", function.signature.name)
        for function in functions
        if any(node.attr["f"].func.name == shared.signature.name for node in function.node_def)
    }
    signatures = set(signatures_for(head, CaiTConfig(32, 16, 16, 2, 2).geometry))
    # By default it is the logits or the features, by the same function.
    assert callers == signatures - {"self_attention", "serving_default"}
    # Features and the attention of two class-attention blocks.
    assert len(shared.signature.output_arg) == 3


@pytest.mark.parametrize("head", BOTH)
def test_file_has_no_notes_of_the_tracing(head: Head, tiny_models: Models) -> None:
    graph = meta_graph(tiny_models[head]).graph_def
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    assert len(nodes) > 1000
    assert not [node.name for node in nodes if "_output_shapes" in node.attr]
    # What a block adds to the file: its weights' handles and their places in every function.
    size = (tiny_models[head] / "saved_model.pb").stat().st_size
    assert size < 600_000


@pytest.mark.parametrize("head", BOTH)
def test_the_fingerprint_is_of_the_file_as_it_is(head: Head, tiny_models: Models) -> None:
    # The file is changed after it was first written, to set the methods.
    directory = tiny_models[head]
    found = fingerprint_pb2.FingerprintDef.FromString((directory / "fingerprint.pb").read_bytes())
    wanted = fingerprint_pb2.FingerprintDef.FromString(
        fingerprinting.CreateFingerprintDef(str(directory))
    )
    for one in (found, wanted):
        one.uuid = ""
    assert found == wanted
    read = tf.saved_model.experimental.read_fingerprint(str(directory))
    assert read.saved_model_checksum == wanted.saved_model_checksum
    assert read.signature_def_hash == wanted.signature_def_hash
    # The writer's own fingerprint would have been of other methods.
    other = fingerprint_pb2.FingerprintDef.FromString(
        (
            tiny_models["features" if head == "classifier" else "classifier"] / "fingerprint.pb"
        ).read_bytes()
    )
    assert other.saved_model_checksum != found.saved_model_checksum


@pytest.mark.parametrize("head", BOTH)
def test_every_function_reaches_every_variable(
    head: Head, tiny_models: Models, tiny_config: CaiTConfig
) -> None:
    loaded = tf.saved_model.load(str(tiny_models[head]))
    names = set(expected_shapes(tiny_config))
    count = len(names) if head == "classifier" else len(names - {"head.weight", "head.bias"})
    assert len(loaded.variables) == len(loaded.trainable_variables) == count
    assert list(loaded.regularization_losses) == []
    identities = {id(variable) for variable in loaded.variables}
    assert len(identities) == count
    functions = [*loaded.signatures.items(), *(("", f) for f in loaded.__call__.concrete_functions)]
    # `training` and `return_attention`, each on and off, for images of each type.
    assert len(functions) == len(signatures_for(head, tiny_config.geometry)) + 3 * 4
    # The class token and what comes after it have no part in the self-attention.
    before = ("patch_embed/", "pos_embed/", "sa_ffn_block_")
    of_patches = {id(v) for v in loaded.variables if v.name.startswith(before)}
    assert len(of_patches) == 3 + 2 * 18
    of_features = {id(v) for v in loaded.variables if not v.name.startswith("head/")}
    of_signature = {
        "self_attention": of_patches,
        "features": of_features,
        "bytes_features": of_features,
    }
    for name, function in functions:
        wanted = of_signature.get(name, identities)
        assert {id(variable) for variable in function.variables} == wanted


def keras_layers(directory: pathlib.Path) -> list[str]:
    """Names of the layers, nested ones too, in the metadata that tf_keras rebuilds a model from."""
    metadata = (directory / "keras_metadata.pb").read_bytes()
    return re.findall(
        r'"class_name": "\w+", "config": {"name": "([^"]+)"', metadata.decode("latin1")
    )


def test_convert_tells_what_it_wrote_and_names_layers_alike_each_time(
    tiny_models: Models, tiny_config: CaiTConfig, tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    # Keras counts layers of no name within a process, this one of the user's among them.
    assert tf.reshape(tf_keras.Input((4,)), (-1, 2, 2)).name
    directory = tmp_path / "new" / "fe"
    (written,) = convert("tiny", tiny_config, tiny_tensors, {"features": directory})
    parameters = sum(
        tensor.size for key, tensor in tiny_tensors.items() if not key.startswith("head.")
    )
    assert written == Converted("features", directory, parameters, written.seconds)
    assert set(written.seconds) == {"build", "assign", "write"}

    layers = keras_layers(directory)
    assert {"tiny_fe", "sa_ffn_block_0", "sa_ffn_block_0_attn_qkv"} <= set(layers)
    # The other was written after the classifier that it shares its layers with.
    other = tiny_models["features"]
    assert layers == keras_layers(other)
    files = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert len(files) == 5
    differ = [f.name for f in files if (other / f).read_bytes() != (directory / f).read_bytes()]
    assert not differ


# In a session, as a server runs them.


@pytest.mark.parametrize("head", BOTH)
def test_a_session_runs_every_signature(
    head: Head, tiny_served: dict[Head, Serve], tiny_config: CaiTConfig, wanted: dict[str, Array]
) -> None:
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(CAT)
    inputs = {
        "images": IMAGES,
        "block": [1, 0, 0, 1],
        "image_bytes": [CAT] * 4,
        "inputs": [example.SerializeToString()] * 4,
    }
    geometry = tiny_config.geometry
    for name, signature in signatures_for(head, geometry).items():
        reply = tiny_served[head](name, **{t.name: inputs[t.name] for t in signature.inputs})
        assert set(reply) == {output.name for output in signature.outputs}
        for output in signature.outputs:
            shape = tuple(4 if size is None else size for size in output.resolve(geometry))
            assert reply[output.name].shape == shape, (name, output.name)
    reply = tiny_served[head]("serving_default", images=IMAGES)
    main = "logits" if head == "classifier" else "features"
    np.testing.assert_allclose(reply[main], wanted[head], rtol=0, atol=1e-5)


def test_a_session_is_always_inference(
    regularised: tuple[CaiTConfig, pathlib.Path], serve_from: Callable[[pathlib.Path], Serve]
) -> None:
    config, directory = regularised
    tensors = random_tensors("acts", config)
    reply = serve_from(directory)("logits", images=IMAGES)
    logits = forward(tensors, IMAGES).logits
    assert logits is not None
    np.testing.assert_allclose(reply["logits"], logits, rtol=0, atol=1e-5)
