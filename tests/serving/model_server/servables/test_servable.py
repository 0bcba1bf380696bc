"""A SavedModel in a session: what is fetched, what is refused, what is freed."""

import gc
import pathlib
import shutil
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2

from serving.errors import Code, ServingError
from serving.model_server.servables.servable import SessionSettings, load_servable

Models = Callable[..., pathlib.Path]
X = np.array([2.0], np.float32)


class Compiled(tf.Module):
    """One signature that XLA compiles, deep inside, and one that it does not."""

    @tf.function(jit_compile=True)
    def _inner(self, x: Any) -> Any:
        return x + 1.0

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def compiled(self, x: Any) -> dict[str, Any]:
        return {"y": tf.cond(tf.size(x) > 5, lambda: x, lambda: self._inner(x))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def plain(self, x: Any) -> dict[str, Any]:
        return {"y": x + 1.0}


def run(servable: Any, signature: str) -> float:
    definition = servable.signatures[signature]
    (x,), (y,) = definition.inputs.values(), definition.outputs.values()
    return float(servable.run({x.name: X}, [y.name])[0][0])


def test_what_xla_compiles_is_refused(tmp_path: pathlib.Path) -> None:
    model = Compiled()
    signatures = {"compiled": model.compiled, "plain": model.plain}
    tf.saved_model.save(model, str(tmp_path), signatures=signatures)
    servable = load_servable(tmp_path, SessionSettings())
    assert run(servable, "plain") == 3.0
    for _ in range(2):
        with pytest.raises(ServingError) as caught:
            run(servable, "compiled")
        assert str(caught.value) == "INTERNAL: XLA compilation disabled"
    servable.close()


def test_nothing_but_what_is_fetched_is_computed(half_plus: Models) -> None:
    servable = load_servable(half_plus(2.0), SessionSettings())
    # The parser of examples is not fed, and would fail if it were run.
    assert servable.run({"x:0": X}, ["y:0"]) == [[3.0]]
    with pytest.raises(ServingError, match="tf_example"):
        servable.run({"x:0": X}, ["y:0", "scores:0"])
    with pytest.raises(ServingError, match="Tensor z:0, specified in either feed_devices or"):
        servable.run({"x:0": X}, ["z:0"])
    servable.close()


def test_a_text_graph_is_loaded(half_plus: Models, tmp_path: pathlib.Path) -> None:
    directory = pathlib.Path(shutil.copytree(half_plus(2.0), tmp_path / "text"))
    binary = directory / "saved_model.pb"
    graph = saved_model_pb2.SavedModel.FromString(binary.read_bytes())
    binary.unlink()
    (directory / "saved_model.pbtxt").write_text(text_format.MessageToString(graph))
    servable = load_servable(directory, SessionSettings())
    assert run(servable, "serving_default") == 3.0
    servable.close()


def test_a_graph_without_the_tag(half_plus: Models, tmp_path: pathlib.Path) -> None:
    directory = pathlib.Path(shutil.copytree(half_plus(2.0), tmp_path / "train"))
    binary = directory / "saved_model.pb"
    graph = saved_model_pb2.SavedModel.FromString(binary.read_bytes())
    graph.meta_graphs[0].meta_info_def.tags[:] = ["train"]
    binary.write_bytes(graph.SerializeToString())
    with pytest.raises(ServingError, match="Could not find meta graph def matching") as caught:
        load_servable(directory, SessionSettings())
    assert caught.value.code == Code.NOT_FOUND


def test_a_model_without_variables_needs_no_file_of_them(tmp_path: pathlib.Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None])
        v1.saved_model.simple_save(session, str(tmp_path / "1"), {"x": x}, {"y": x + 1.0})
    assert not (tmp_path / "1/variables/variables.index").exists()
    servable = load_servable(tmp_path / "1", SessionSettings())
    assert run(servable, "serving_default") == 3.0
    servable.close()


@pytest.mark.slow
def test_closing_frees_the_graph(half_plus: Models) -> None:
    servable = load_servable(half_plus(2.0, "tf2"), SessionSettings())
    definition = servable.signatures["serving_default"]
    servable.run({definition.inputs["x"].name: X}, [definition.outputs["y"].name])
    graph = weakref.ref(servable._graph)
    assert graph() is not None
    servable.close()
    gc.collect()
    assert graph() is None


def test_threads_are_the_sessions(half_plus: Models) -> None:
    servable = load_servable(half_plus(2.0), SessionSettings(3, 2))
    assert servable._session is not None
    config = servable._session._config
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (3, 2)
    servable.close()
