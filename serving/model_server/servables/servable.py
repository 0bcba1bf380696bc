"""A SavedModel in a session, run by the names of its tensors, as TF Serving runs it."""

import dataclasses
import gc
import pathlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2
from tensorflow.python.client import pywrap_tf_session

from ...errors import Code, ServingError, error_from, invalid_argument, not_found
from ...tensors import Array
from .xla import must_compile

TAG = "serve"
DEFAULT_SIGNATURE = "serving_default"


class Servable(Protocol):
    """What requests run on: a loaded version, or something in front of one, such as batching.

    Attributes:
        signatures: name -> signature, as they stand in the meta graph.
    """

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """Name -> signature."""
        ...

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout: float | None = None
    ) -> list[Array]:
        """Runs the graph.

        Args:
            feeds: names of tensors of the graph (`images:0`) -> their values.
            fetches: names of the tensors to answer with, and nothing beyond them is computed.
            timeout: seconds after which the run is given up; None is never.

        Returns:
            The values of `fetches`, in their order.

        Raises:
            ServingError: with the code and the message that TensorFlow gave.
        """
        ...

    def close(self) -> None:
        """Frees the model. Nothing may run on it any more."""
        ...


Loader = Callable[[pathlib.Path], Servable]
"""Loads a version from its directory; raises if that fails, and leaves nothing behind then."""


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
    """Loads the meta graph with the tag `serve` of a version's directory, TF1 or TF2 style.

    Raises:
        ServingError: what is missing or broken. Other than TF Serving's, whose first request fails
            then, this load fails when the files of the variables are not there.
    """
    meta_graph = _read_meta_graph(directory)
    # What was saved with a saver is restored with it; a TF1 model of constants has none.
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
    """A `Servable` that is a session of its own.

    Args:
        session: with the graph loaded and initialised.
        signatures: name -> signature of the graph.
        refused: whether a tensor cannot be computed without XLA, which TF Serving switches off.
    """

    def __init__(
        self,
        session: tf.compat.v1.Session,
        signatures: Mapping[str, meta_graph_pb2.SignatureDef],
        refused: Callable[[str], bool],
    ) -> None:
        self._signatures = {name: _copy(signature) for name, signature in signatures.items()}
        self._session: tf.compat.v1.Session | None = session
        self._graph = session.graph
        self._graph.finalize()
        # `Session.run` does this on every call; a graph that is final needs it once.
        session._extend_graph()
        self._refused = refused
        self._outputs: dict[str, Any] = {}
        self._lock = threading.Lock()

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        return self._signatures

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout: float | None = None
    ) -> list[Array]:
        assert self._session is not None, "closed"
        # The call under `Session.run`: what that adds is a check of static shapes, which would
        # hide the graph's own, and messages with stack traces. Executors are kept by the session
        # for each set of feeds and fetches.
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
        # A tensor without dimensions comes as a scalar, of Python's type if it is a string.
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
            # A graph and its operations refer to each other; the weights go with them.
            gc.collect()

    def _output(self, name: str, fetched: bool = False) -> Any:
        """The tensor of a name, looked up once."""
        with self._lock:
            output = self._outputs.get(name)
            if output is None:
                if fetched and self._refused(name):
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
            return _tagged(_parse_text(path.with_suffix(".pbtxt")))
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
        raise _broken_off() from error
    return _tagged(saved_model)


def _parse_text(path: pathlib.Path) -> saved_model_pb2.SavedModel:
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), saved_model_pb2.SavedModel())
    except (UnicodeDecodeError, text_format.ParseError) as error:
        raise _broken_off() from error


def _broken_off() -> ServingError:
    """The error of a file that is no `SavedModel`, as one is that was broken off.

    TensorFlow reads half a megabyte at a time, and says that the last part was short wherever it
    had to go on to it. Nonsense in an earlier part of a larger file is DATA_LOSS there; a parser
    in Python does not tell where it stopped.
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
    """Whether a model's variables are there: the index and every shard that a name counts.

    TensorFlow's own loader takes a missing index for a model without variables, and a missing
    shard for an UNKNOWN error.

    Raises:
        ServingError: NOT_FOUND.
    """
    shards = sorted(directory.glob("variables.data-?????-of-?????"))
    count = max((int(shard.name[-5:]) for shard in shards), default=1)
    wanted = [f"variables.data-{number:05}-of-{count:05}" for number in range(count)]
    for name in ("variables.index", *wanted):
        if not (directory / name).is_file():
            raise not_found(f"{directory / name}; No such file or directory")


def _copy(signature: meta_graph_pb2.SignatureDef) -> meta_graph_pb2.SignatureDef:
    """A copy that keeps nothing of the meta graph alive."""
    copy = meta_graph_pb2.SignatureDef()
    copy.CopyFrom(signature)
    return copy
