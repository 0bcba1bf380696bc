"""SavedModels as their three readers see them: a server, `hub.KerasLayer`, and tf_keras."""

import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from export.convert import Converted, convert
from export.random_weights import random_tensor, seeded_normal
from export.reference import forward
from export.variants import CaiTConfig
from export.weights import expected_shapes
from signatures import BOTH, CLASSIFY_METHOD, PREDICT_METHOD, Head, signatures_for

Array = npt.NDArray[np.float32]
Tensors = dict[str, Array]
Replies = dict[str, npt.NDArray[Any]]
Serve = Callable[..., Replies]
Models = dict[Head, pathlib.Path]

IMAGES = seeded_normal("saved model", (4, 32, 32, 3))
CAT = (pathlib.Path(__file__).parents[1] / "data" / "photos" / "cat.jpg").read_bytes()


@pytest.fixture(scope="module")
def wanted(tiny_tensors: Tensors) -> dict[str, Array]:
    """What a call returns for `IMAGES`, by name, from the reference."""
    outputs: dict[str, Array] = {}

    def sink(block: int, attention: Array) -> None:
        outputs[f"sa_ffn_block_{block}_att"] = attention.copy()

    reference = forward(tiny_tensors, IMAGES, sink)
    assert reference.logits is not None
    outputs |= {f"ca_ffn_block_{i}_att": a for i, a in enumerate(reference.class_attention)}
    return outputs | {"classifier": reference.logits, "features": reference.features}


@pytest.fixture(scope="module")
def regularised(tmp_path_factory: pytest.TempPathFactory) -> tuple[CaiTConfig, pathlib.Path]:
    """A SavedModel that acts in training, of more blocks than have one digit."""
    config = CaiTConfig(32, 16, 16, 2, 11, num_classes=10, dropout_rate=0.2, drop_path_rate=0.2)
    tensors = {key: random_tensor("deep", key, s) for key, s in expected_shapes(config).items()}
    directory = tmp_path_factory.mktemp("regularised") / "model"
    list(convert("deep", config, tensors, {"classifier": directory}))
    return config, directory


def meta_graph(directory: pathlib.Path) -> Any:
    content = (directory / "saved_model.pb").read_bytes()
    (meta_graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    return meta_graph


def assert_is_wanted(outputs: Any, wanted: dict[str, Array], head: Head) -> None:
    """Holds what a call returned to the reference's outputs."""
    main, self_attention, class_attention = outputs
    np.testing.assert_allclose(main, wanted[head], rtol=0, atol=1e-5)
    assert sorted(self_attention) == ["sa_ffn_block_0_att", "sa_ffn_block_1_att"]
    assert sorted(class_attention) == ["ca_ffn_block_0_att", "ca_ffn_block_1_att"]
    for name, attention in {**self_attention, **class_attention}.items():
        np.testing.assert_allclose(attention, wanted[name], rtol=0, atol=1e-5, err_msg=name)


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
    # TF Serving's binaries have no XLA for CPUs, and no Python at all.
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
def test_blocks_of_a_kind_share_one_function(head: Head, tiny_models: Models) -> None:
    # The loading time and the size of a model would grow with each copy of a block.
    functions = meta_graph(tiny_models[head]).graph_def.library.function
    products = [
        sum(node.op.startswith("BatchMatMul") for node in function.node_def)
        for function in functions
    ]
    # A class-attention block has two products; a self-attention block two of the talking heads'
    # weights and two of the attention. It is there as the layer has it, and as signatures run it.
    assert sorted(count for count in products if count) == [2, 4, 4]
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
    assert callers == signatures - {"self_attention"}
    # Logits or features, features, and the attention of two class-attention blocks.
    assert len(shared.signature.output_arg) == 4


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
    functions = [*loaded.signatures.values(), *loaded.__call__.concrete_functions]
    # `training` and `return_attention`, each on and off.
    assert len(functions) == len(signatures_for(head, tiny_config.geometry)) + 4
    for function in functions:
        assert {id(variable) for variable in function.variables} == identities


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
    assert {"tiny_fe", "sa_ffn_block_0", "attn_qkv"} <= set(layers)
    assert layers == keras_layers(tiny_models["features"])


# First reader: a server, which runs signatures in a session.


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


# Second reader: hub.KerasLayer.


@pytest.mark.parametrize("head", BOTH)
def test_hub_calls_it(head: Head, tiny_models: Models, wanted: dict[str, Array]) -> None:
    layer = hub.KerasLayer(str(tiny_models[head]))
    assert_is_wanted(layer(IMAGES), wanted, head)
    # A layer that is not trainable has nothing to train, and a call of it changes nothing.
    assert layer.trainable_variables == []
    assert len(layer.variables) == (80 if head == "classifier" else 78)
    assert_is_wanted(layer(IMAGES, training=True), wanted, head)


@pytest.mark.parametrize("head", BOTH)
def test_hub_calls_it_with_any_batch(head: Head, tiny_models: Models) -> None:
    layer = hub.KerasLayer(str(tiny_models[head]))
    for batch in (0, 1, 3):
        outputs = tf.nest.flatten(layer(IMAGES[:batch]))
        assert [output.shape[0] for output in outputs] == [batch] * 5


@pytest.mark.parametrize("head", BOTH)
def test_hub_calls_it_without_attention(
    head: Head, tiny_models: Models, wanted: dict[str, Array]
) -> None:
    layer = hub.KerasLayer(str(tiny_models[head]), arguments={"return_attention": False})
    main = layer(IMAGES)
    assert isinstance(main, tf.Tensor)
    np.testing.assert_allclose(main, wanted[head], rtol=0, atol=1e-5)
    # As the hub's image conventions want it: usable in a model whose input has no batch yet.
    model = tf_keras.Sequential([tf_keras.Input((32, 32, 3)), layer])
    assert model.output_shape == (None, 10 if head == "classifier" else 16)
    np.testing.assert_allclose(model(IMAGES), wanted[head], rtol=0, atol=1e-5)


def gets_no_gradient(name: str) -> bool:
    """Whether the loss cannot depend on a variable, whatever its value.

    A softmax does not change when one number is added to all that it is taken over. The bias of
    the first talking heads adds one to a whole row of scores, and the bias of a key adds, to the
    scores of a query, that query's product with it. The self-attention blocks have the latter,
    too, but in one variable with the biases of query and value.
    """
    layer = name.split("/")[-2]
    return layer == "attn_proj_l_bias" or name.endswith("attn_k/bias:0")


@pytest.mark.parametrize("head", BOTH)
def test_hub_fine_tunes_it_on_other_classes(head: Head, tiny_models: Models) -> None:
    tf_keras.utils.set_random_seed(1)
    layer = hub.KerasLayer(
        str(tiny_models[head]), trainable=True, arguments={"return_attention": False}
    )
    model = tf_keras.Sequential(
        [tf_keras.Input((32, 32, 3)), layer, tf_keras.layers.Dense(5, name="classes")]
    )
    count = 80 if head == "classifier" else 78
    assert len(layer.trainable_variables) == count
    assert len(model.trainable_variables) == count + 2
    assert layer.losses == []

    images = seeded_normal("fine-tuning", (10, 32, 32, 3))
    classes = np.arange(10) % 5
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        value = loss(classes, model(images, training=True))
    gradients = tape.gradient(value, layer.trainable_variables)
    largest = [float(np.abs(tf.convert_to_tensor(gradient)).max()) for gradient in gradients]
    # By place, because blocks have variables of the same names.
    names = [variable.name for variable in layer.trainable_variables]
    without = [i for i, name in enumerate(names) if gets_no_gradient(name)]
    assert len(without) == 2 + 2
    # Rounding is all there is to those; the others' gradients are far above it.
    for i, name in enumerate(names):
        assert largest[i] < 1e-7 if i in without else largest[i] > 1e-5, name

    before = [variable.numpy() for variable in layer.trainable_variables]
    # Plain gradient descent: a step of Adam would be as large on rounding as on a gradient.
    model.compile(tf_keras.optimizers.SGD(0.05), loss)
    history = model.fit(images, classes, batch_size=10, epochs=3, verbose=0).history["loss"]
    assert len(history) == 3
    after = model.evaluate(images, classes, batch_size=10, verbose=0)
    assert history[0] > history[1] > history[2] > after
    for i, variable in enumerate(layer.trainable_variables):
        change = np.abs(variable.numpy() - before[i]).max()
        assert change < 1e-7 if i in without else change > 1e-6, variable.name


def test_hub_leaves_rates_to_training(
    regularised: tuple[CaiTConfig, pathlib.Path],
) -> None:
    config, directory = regularised
    tensors = {key: random_tensor("deep", key, s) for key, s in expected_shapes(config).items()}
    attention: dict[str, Array] = {}

    def sink(block: int, of_block: Array) -> None:
        attention[f"sa_ffn_block_{block}_att"] = of_block.copy()

    reference = forward(tensors, IMAGES, sink)
    # Loaded once for all three, which a layer may be given as well as a path.
    loaded = hub.load(str(directory))
    layer = hub.KerasLayer(loaded, trainable=True)
    for outputs in (layer(IMAGES), layer(IMAGES, training=False)):
        np.testing.assert_allclose(outputs[0], reference.logits, rtol=0, atol=1e-5)
        # Each under its name, also where an order by name is not that of the numbers.
        assert set(outputs[1]) == set(attention)
        for name, of_block in outputs[1].items():
            np.testing.assert_allclose(of_block, attention[name], rtol=0, atol=1e-5, err_msg=name)

    first, second = (layer(IMAGES, training=True)[0].numpy() for _ in range(2))
    assert np.abs(first - reference.logits).max() > 1e-2
    assert np.abs(second - first).max() > 1e-2

    alone = hub.KerasLayer(loaded, trainable=True, arguments={"return_attention": False})
    np.testing.assert_allclose(alone(IMAGES), reference.logits, rtol=0, atol=1e-5)
    assert np.abs(alone(IMAGES, training=True) - reference.logits).max() > 1e-2
    # A layer that is not to be trained is called for inference, even within training.
    frozen = hub.KerasLayer(loaded, arguments={"return_attention": False})
    np.testing.assert_allclose(frozen(IMAGES, training=True), reference.logits, rtol=0, atol=1e-5)


def test_a_session_is_always_inference(
    regularised: tuple[CaiTConfig, pathlib.Path], serve_from: Callable[[pathlib.Path], Serve]
) -> None:
    config, directory = regularised
    tensors = {key: random_tensor("deep", key, s) for key, s in expected_shapes(config).items()}
    reply = serve_from(directory)("logits", images=IMAGES)
    np.testing.assert_allclose(reply["logits"], forward(tensors, IMAGES).logits, rtol=0, atol=1e-5)


# Third reader: tf_keras, where this project is not installed.

KERAS_READER = """
import contextlib, importlib.util, io, json, os, pathlib, sys

work, *directories = map(pathlib.Path, sys.argv[1:])
assert pathlib.Path.cwd() == work
for name in ("export", "signatures", "serving_configs", "pipelines"):
    assert importlib.util.find_spec(name) is None, f"{name} can be imported"

import numpy as np
import tf_keras

images = np.load(work / "images.npy")
facts = {}
for directory in directories:
    model = tf_keras.models.load_model(directory)
    called = model(images)
    predicted = model.predict(images, verbose=0)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        model.summary(expand_nested=True, line_length=200)
    again = work / f"{directory.name} again"
    model.save(again)
    reloaded = tf_keras.models.load_model(again)(images)
    block = model.get_layer("sa_ffn_block_1")
    for kind, outputs in (("called", called), ("predicted", predicted), ("again", reloaded)):
        main, self_attention, class_attention = outputs
        np.savez(
            work / f"{directory.name} {kind}.npz",
            main=main,
            **{name: np.asarray(a) for name, a in {**self_attention, **class_attention}.items()},
        )
    assert type(called) is tuple, type(called)
    facts[directory.name] = {
        "name": model.name,
        "summary": text.getvalue(),
        "order": [list(called[1]), list(called[2])],
        "kernel": block.get_layer("attn_qkv").kernel.numpy().tolist(),
        "parameters": model.count_params(),
        "layers": [layer.name for layer in model.layers],
    }
(work / "facts.json").write_text(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def read_by_keras(tiny_models: Models, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with what tf_keras made of both models in a process without this project."""
    work = tmp_path_factory.mktemp("elsewhere")
    np.save(work / "images.npy", IMAGES)
    done = subprocess.run(
        # -I: neither the working directory nor PYTHONPATH is searched for modules.
        [sys.executable, "-I", "-c", KERAS_READER, str(work), *map(str, tiny_models.values())],
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return work


@pytest.mark.parametrize("head", BOTH)
@pytest.mark.parametrize("kind", ["called", "predicted", "again"])
def test_keras_loads_it_without_this_project(
    kind: str, head: Head, read_by_keras: pathlib.Path, wanted: dict[str, Array]
) -> None:
    with np.load(read_by_keras / f"{head} {kind}.npz") as archive:
        found = dict(archive)
    np.testing.assert_allclose(found.pop("main"), wanted[head], rtol=0, atol=1e-5)
    assert set(found) == set(wanted) - set(BOTH)
    for name, attention in found.items():
        np.testing.assert_allclose(attention, wanted[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("head", BOTH)
def test_keras_finds_the_parts_by_name(
    head: Head, read_by_keras: pathlib.Path, tiny_tensors: Tensors
) -> None:
    facts = json.loads((read_by_keras / "facts.json").read_text())[head]
    assert facts["name"] == ("tiny" if head == "classifier" else "tiny_fe")
    assert facts["order"] == [
        ["sa_ffn_block_0_att", "sa_ffn_block_1_att"],
        ["ca_ffn_block_0_att", "ca_ffn_block_1_att"],
    ]
    np.testing.assert_array_equal(
        np.array(facts["kernel"], np.float32), tiny_tensors["blocks.1.attn.qkv.weight"].T
    )
    sizes = {key: tensor.size for key, tensor in tiny_tensors.items()}
    if head == "features":
        del sizes["head.weight"], sizes["head.bias"]
    assert facts["parameters"] == sum(sizes.values())
    for name in (
        *("patch_embed", "pos_embed", "cls_token", "norm"),
        *("sa_ffn_block_0", "sa_ffn_block_1", "ca_ffn_block_0", "ca_ffn_block_1"),
    ):
        assert name in facts["layers"]
        assert f" {name} (" in facts["summary"]
    assert ("head" in facts["layers"]) == (head == "classifier")
    # Within the blocks, which a summary draws with a bar to their left.
    for name in ("attn_qkv", "attn_proj_l", "attn_proj_w_bias", "gamma_1", "mlp_fc1", "attn_k"):
        assert f"| {name} (" in facts["summary"], facts["summary"]
