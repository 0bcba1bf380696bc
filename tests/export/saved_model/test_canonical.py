"""The same model is the same bytes, whatever was made before it, in whichever process."""

import hashlib
import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2

from export.convert import convert
from export.saved_model.canonical import canonicalise
from signatures import BOTH
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.slow

# In a process of its own, with another seed for the order of sets, after another model.
SCRIPT = """
import pathlib, sys
from export.convert import convert
from export.checkpoints.random_weights import random_tensors
from export.variants import CaiTConfig

def run(name, sa_blocks):
    config = CaiTConfig(32, 16, 16, 2, sa_blocks, num_classes=10)
    tensors = random_tensors("tiny", config)
    root = pathlib.Path(sys.argv[1], name)
    for _ in convert(name, config, tensors, {h: root / h for h in ("classifier", "features")}):
        pass

run("other", 1)
run("tiny", 2)
"""


def files_of(directory: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def proto_of(directory: pathlib.Path) -> saved_model_pb2.SavedModel:
    return saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())


def test_second_conversion_in_a_process_gives_the_same_bytes(
    tiny_config, tiny_tensors, tiny_models, tmp_path
):
    for converted in convert("tiny", tiny_config, tiny_tensors, {h: tmp_path / h for h in BOTH}):
        assert files_of(converted.directory) == files_of(tiny_models[converted.head])


def test_bytes_stay_as_they_are(tiny_models):
    """What moves code about leaves the graphs alone. Who changes a graph changes these with it."""
    digests = {
        head: hashlib.sha256((directory / "saved_model.pb").read_bytes()).hexdigest()
        for head, directory in tiny_models.items()
    }
    assert digests == {
        "classifier": "bd872aceec2401298ae69c70a227b96484ca8221be2e959e4061d4a10b97af32",
        "features": "9f487739cb30fbc47e4860e128cf46b8c750877a9f2b83f57ecfc471033db80d",
    }


def test_another_process_gives_the_same_bytes(tiny_models, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=REPOSITORY,
        env=environment,
        check=True,
        capture_output=True,
    )
    for head in BOTH:
        found = files_of(tmp_path / "tiny" / head)
        assert set(found) >= {"saved_model.pb", "keras_metadata.pb", "fingerprint.pb"}
        assert found == files_of(tiny_models[head])
    assert files_of(tmp_path / "other" / "features") != files_of(tmp_path / "tiny" / "features")


@pytest.mark.parametrize("head", BOTH)
def test_fingerprint_is_of_the_files(tiny_models, head):
    content = (tiny_models[head] / "fingerprint.pb").read_bytes()
    found = fingerprint_pb2.FingerprintDef.FromString(content)
    read = tf.saved_model.experimental.read_fingerprint(str(tiny_models[head]))
    assert found.saved_model_checksum == read.saved_model_checksum != 0
    assert found.uuid.isdecimal()


@pytest.mark.parametrize("head", BOTH)
def test_functions_are_in_order_and_nothing_calls_one_that_is_not_there(tiny_models, head):
    meta_graph = proto_of(tiny_models[head]).meta_graphs[0]
    names = [function.signature.name for function in meta_graph.graph_def.library.function]
    assert names == sorted(set(names))
    called = {
        function.name
        for nodes in (
            meta_graph.graph_def.node,
            *(function.node_def for function in meta_graph.graph_def.library.function),
        )
        for node in nodes
        for value in node.attr.values()
        for function in ([value.func] if value.HasField("func") else value.list.func)
    }
    assert called <= set(names)
    assert set(meta_graph.object_graph_def.concrete_functions) <= set(names)


def test_what_is_canonical_stays_as_it_is(tiny_models):
    proto = proto_of(tiny_models["classifier"])
    canonicalise(proto)
    assert proto == proto_of(tiny_models["classifier"])


def test_function_that_nothing_leads_to_is_not_lost_in_silence(tiny_models):
    proto = proto_of(tiny_models["features"])
    proto.meta_graphs[0].graph_def.library.function.add().signature.name = "astray"
    with pytest.raises(ValueError, match="astray"):
        canonicalise(proto)
