"""A SavedModel in a session, run by the names of its tensors, as TF Serving runs it."""

import dataclasses
import gc
import pathlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2
from tensorflow.python.client import pywrap_tf_session

from ...errors import Code, ServingError, error_from, invalid_argument, not_found
from ...tensors import Array
from ...text_proto import read_text_proto
from .xla import must_compile

TAG = "serve"
DEFAULT_SIGNATURE = "serving_default"


class Servable(Protocol):
    """What requests run on: a loaded version, or a wrapper of one, such as batching."""

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """The signatures of the meta graph by name."""
        ...

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout: float | None = None
    ) -> list[Array]:
        """Runs the graph.

        Args:
            feeds: name of a tensor of the graph (`images:0`) -> its value.
            fetches: names of the tensors to compute; nothing else is computed.
            timeout: seconds after which the run is cancelled; None is no limit.

        Returns:
            The values of `fetches`, in their order.

        Raises:
            ServingError: TensorFlow's code and message.
        """
        ...

    def close(self) -> None:
        """Frees the model. No request may run on it afterwards."""
        ...


Loader = Callable[[pathlib.Path], Servable]
"""Loads a version from its directory, or raises and leaves nothing behind."""


@dataclasses.dataclass(frozen=True)
class SessionSettings:
    """How sessions run.

    Attributes:
        intra_op_threads: threads within an operation; 0 leaves the choice to TensorFlow.
        inter_op_threads: threads between operations; 0 leaves the choice to TensorFlow.
    """

    intra_op_threads: int = 0
    inter_op_threads: int = 0


def load_servable(directory: pathlib.Path, settings: SessionSettings) -> "SessionServable":
    """Loads the meta graph with the tag `serve` from a version's directory, TF1 or TF2 style.

    Raises:
        ServingError: what is missing or broken. The load fails when files of the variables are
            missing; in TF Serving the first request fails then.
    """
    meta_graph = _read_meta_graph(directory)
    # A TF1 model without variables has no saver.
    if meta_graph.HasField("saver_def"):
        _check_variables(directory / "variables")
    session = tf.compat.v1.Session(
        graph=tf.Graph(),
        config=config_pb2.ConfigProto(
            intra_op_parallelism_threads=settings.intra_op_threads,
            inter_op_parallelism_threads=settings.inter_op_threads,
        ),
    )
    try:
        with session.graph.as_default():
            tf.compat.v1.saved_model.load(session, [TAG], str(directory))
        return SessionServable(
            session, meta_graph.signature_def, must_compile(meta_graph.graph_def)
        )
    except Exception as error:
        session.close()
        raise error_from(error) from error


class SessionServable:
    """A `Servable` with its own session.

    Args:
        session: a session with the loaded and initialised graph.
        signatures: name -> signature of the graph.
        needs_xla: says whether a tensor needs XLA, which TF Serving switches off.
    """

    def __init__(
        self,
        session: tf.compat.v1.Session,
        signatures: Mapping[str, meta_graph_pb2.SignatureDef],
        needs_xla: Callable[[str], bool],
    ) -> None:
        self._signatures = {name: _copy(signature) for name, signature in signatures.items()}
        self._session: tf.compat.v1.Session | None = session
        self._graph = session.graph
        self._graph.finalize()
        # `Session.run` does this on every call; a finalized graph needs it once.
        session._extend_graph()
        self._needs_xla = needs_xla
        self._outputs: dict[str, Any] = {}
        self._lock = threading.Lock()

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        return self._signatures

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout: float | None = None
    ) -> list[Array]:
        assert self._session is not None, "closed"
        # The call that `Session.run` makes. `Session.run` itself would check static shapes, which
        # would hide the graph's own checks, and would add stack traces to messages.
        options = None
        if timeout is not None:
            if timeout <= 0:
                raise ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
            message = config_pb2.RunOptions(timeout_in_ms=max(1, int(timeout * 1000)))
            options = pywrap_tf_session.TF_NewBufferFromString(message.SerializeToString())
        try:
            values = pywrap_tf_session.TF_SessionRun_wrapper(
                self._session._session,
                options,
                {self._output(name): array for name, array in feeds.items()},
                [self._output(name, fetched=True) for name in fetches],
                [],
                None,
            )
        except (tf.errors.OpError, MemoryError) as error:
            raise error_from(error) from error
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)
        # A tensor without dimensions is returned as a scalar, a string as Python's bytes.
        return [
            np.array(value, object) if isinstance(value, bytes) else np.asarray(value)
            for value in values
        ]

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
            self._graph = None
            self._outputs.clear()
            # A graph and its operations form cycles, which keep the weights.
            gc.collect()

    def _output(self, name: str, fetched: bool = False) -> Any:
        """The tensor of a name; it is looked up once."""
        with self._lock:
            output = self._outputs.get(name)
            if output is None:
                if fetched and self._needs_xla(name):
                    raise ServingError(Code.INTERNAL, "XLA compilation disabled")
                try:
                    output = self._graph.get_tensor_by_name(name)._as_tf_output()
                except (KeyError, ValueError) as error:
                    raise invalid_argument(
                        f"Tensor {name}, specified in either feed_devices or fetch_devices was "
                        "not found in the Graph"
                    ) from error
                self._outputs[name] = output
            return output


def _read_meta_graph(directory: pathlib.Path) -> meta_graph_pb2.MetaGraphDef:
    path = directory / "saved_model.pb"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if path.with_suffix(".pbtxt").is_file():
            try:
                text = read_text_proto(path.with_suffix(".pbtxt"), saved_model_pb2.SavedModel())
            except ServingError as error:
                raise _malformed() from error
            return _tagged(text)
        raise not_found(
            "Could not find SavedModel .pb or .pbtxt at supplied export directory path: "
            f"{directory}. Check that the directory exists and that you have the right permissions "
            "for accessing it."
        ) from None
    except OSError as error:
        raise ServingError(Code.PERMISSION_DENIED, f"{path}: {error.strerror}") from error
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(data)
    except Exception as error:
        raise _malformed() from error
    return _tagged(saved_model)


def _malformed() -> ServingError:
    """The error of a file that is not a `SavedModel`, for example a truncated one.

    TensorFlow reads half a megabyte at a time and reports that the last part was short. For a
    larger file with a malformed earlier part it reports DATA_LOSS; Python's parser does not say
    where it stopped.
    """
    return ServingError(Code.OUT_OF_RANGE, "Read less bytes than requested")


def _tagged(saved_model: saved_model_pb2.SavedModel) -> meta_graph_pb2.MetaGraphDef:
    for meta_graph in saved_model.meta_graphs:
        if list(meta_graph.meta_info_def.tags) == [TAG]:
            return meta_graph
    raise not_found(
        f"Could not find meta graph def matching supplied tags: {{ {TAG} }}. To inspect available "
        "tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
    )


def _check_variables(directory: pathlib.Path) -> None:
    """Checks that the index of a model's variables and every shard exist.

    TensorFlow's loader treats a model without an index as one without variables, and reports a
    missing shard as UNKNOWN.

    Raises:
        ServingError: NOT_FOUND.
    """
    shards = sorted(directory.glob("variables.data-?????-of-?????"))
    count = max((int(shard.name[-5:]) for shard in shards), default=1)
    expected = [f"variables.data-{number:05}-of-{count:05}" for number in range(count)]
    for name in ("variables.index", *expected):
        if not (directory / name).is_file():
            raise not_found(f"{directory / name}; No such file or directory")


def _copy(signature: meta_graph_pb2.SignatureDef) -> meta_graph_pb2.SignatureDef:
    """A copy that does not keep the meta graph alive."""
    copy = meta_graph_pb2.SignatureDef()
    copy.CopyFrom(signature)
    return copy
