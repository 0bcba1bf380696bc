"""What a server needs to know of a model: its latency, its memory, and that its warm-up runs.

Done once for each model by the gate, on the model that it has loaded.
"""

import contextlib
import pathlib
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving_configs.server.batching import (
    LATENCY_BUDGET,
    batching_for,
)
from serving_configs.tree.latency import LatencyProfile
from serving_configs.tree.paths import VERSION_BATCHING
from signatures import Geometry, Head
from signatures.warmup import REQUESTS, write_warmup

Signatures = Mapping[str, tf.types.experimental.ConcreteFunction]

BATCH = 8
"""Images of the second measurement, or fewer where they would take longer than `_LONGEST`."""

# Twice what a batch may take in the parameters that follow from the measurement.
_LONGEST = 2 * LATENCY_BUDGET
_RUNS = 3
_RUNS_OF_A_BATCH = 2
_SAMPLING = 0.002
_FLOAT = 4


class WarmupError(Exception):
    """A warm-up request that fails; a server would refuse the version for it."""


def measure(
    run: Callable[[int], object], geometry: Geometry, timed: Sequence[float] = ()
) -> LatencyProfile:
    """Measures a model on this machine: a few runs with one image, then some with several.

    The memory of an image is the growth of the process, but no less than what the largest tensors
    take: TensorFlow keeps what it has freed, so that a growth may not be seen.

    Args:
        run: runs the model on that many images; it has run before.
        geometry: the model's sizes.
        timed: seconds of runs with one image that were made before; if they are enough no more are.
    """
    enough = len(timed) >= _RUNS or min(timed, default=0.0) > _LONGEST
    latency = min(timed) if enough else _seconds(run, 1)
    batch = BATCH
    while batch > 1 and batch * latency > _LONGEST:
        batch //= 2
    batch_latency, growth = latency, 0
    if batch > 1:
        with _growth() as found:
            batch_latency = _seconds(run, batch, _RUNS_OF_A_BATCH)
        growth = found[0] // batch
    return LatencyProfile(latency, batch, batch_latency, max(growth, _least_memory(geometry)))


def write_serving_files(
    directory: pathlib.Path, model: str, head: Head, geometry: Geometry, measured: LatencyProfile
) -> None:
    """Writes what only servers read of a version: its batching parameters and warm-up requests.

    There is a request for each size of batch that the parameters allow.

    Args:
        directory: the staged version's.
        model: the model's name.
        head: which model it is.
        geometry: its sizes.
        measured: see `measure`.

    Raises:
        OSError: a file cannot be written.
    """
    batching = batching_for(measured)
    (directory / VERSION_BATCHING).write_text(batching.as_text(), encoding="utf-8")
    path = directory / REQUESTS
    path.parent.mkdir(exist_ok=True)
    write_warmup(path, model, head, geometry, batching.sizes)


def check_warmup(
    signatures: Signatures, model: str, head: Head, geometry: Geometry, measured: LatencyProfile
) -> int:
    """Tries the requests that `write_serving_files` writes, out of a file as a server does.

    Args:
        signatures: those of the loaded model.
        model: the model's name.
        head: which model it is.
        geometry: its sizes.
        measured: see `measure`.

    Returns:
        How many there were.

    Raises:
        WarmupError: the first that fails.
    """
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        write_serving_files(root, model, head, geometry, measured)
        return try_warmup(root / REQUESTS, signatures)


def try_warmup(path: pathlib.Path, signatures: Signatures) -> int:
    """Holds every request of a file to its signature, and runs some; the number of all.

    Only images that have to be decoded are run, of which the gate had one at a time: with pixels
    the measurement has run a batch, and the gate images of several blocks. Of requests with the
    same values one is run, with several images if there is one, and only for one of the signatures
    with the same inputs.

    Raises:
        WarmupError: the first that fails.
    """
    requests = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    chosen: dict[tuple[str, bytes], tuple[int, int, str, dict[str, tf.Tensor]]] = {}
    count = 0
    for count, record in enumerate(requests, 1):
        log = prediction_log_pb2.PredictionLog.FromString(record)
        name = _signature(log)
        with _failing(count - 1, name):
            inputs = _inputs(log)
            expected = signatures[name].structured_input_signature[1]
            _check_inputs(inputs, expected)
        if all(tensor.dtype != tf.string for tensor in inputs.values()):
            continue
        values = b"".join(_first(tensor) for _, tensor in sorted(inputs.items()))
        images = min(tensor.shape[0] for tensor in inputs.values())
        kind = (str(expected), values)
        if kind not in chosen or 1 == chosen[kind][0] < images:
            chosen[kind] = (images, count - 1, name, inputs)
    for _, number, name, inputs in chosen.values():
        with _failing(number, name):
            signatures[name](**inputs)
    return count


@contextlib.contextmanager
def _failing(number: int, name: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, tf.errors.OpError) as error:
        message = " ".join(getattr(error, "message", str(error)).split())
        raise WarmupError(f"warm-up request {number} of {name} fails: {message}") from error


def _signature(log: prediction_log_pb2.PredictionLog) -> str:
    classify = log.WhichOneof("log_type") == "classify_log"
    name: str = (
        log.classify_log if classify else log.predict_log
    ).request.model_spec.signature_name
    return name


def _inputs(log: prediction_log_pb2.PredictionLog) -> dict[str, tf.Tensor]:
    """Tensors of a request, read as the server reads them."""
    if log.WhichOneof("log_type") == "classify_log":
        examples = log.classify_log.request.input.example_list.examples
        return {"inputs": tf.constant([example.SerializeToString() for example in examples])}
    return {
        name: tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(proto.dtype))
        for name, proto in log.predict_log.request.inputs.items()
    }


def _check_inputs(inputs: Mapping[str, tf.Tensor], expected: Mapping[str, tf.TensorSpec]) -> None:
    if inputs.keys() != expected.keys():
        raise ValueError(f"inputs {', '.join(sorted(inputs))}; expected {', '.join(expected)}")
    for name, tensor in inputs.items():
        if not expected[name].is_compatible_with(tensor):
            raise ValueError(
                f"{name} is {tensor.dtype.name} {tensor.shape}; expected "
                f"{expected[name].dtype.name} {expected[name].shape}"
            )


def _first(tensor: tf.Tensor) -> bytes:
    """The values of the first image."""
    serialized: bytes = tf.io.serialize_tensor(tensor[0]).numpy()
    return serialized


def _seconds(run: Callable[[int], object], images: int, runs: int = _RUNS) -> float:
    """The shortest of a few runs: what is longer was something else on the machine."""
    shortest = float("inf")
    for _ in range(runs):
        started = time.perf_counter()
        run(images)
        shortest = min(shortest, time.perf_counter() - started)
        if shortest > _LONGEST:
            break
    return shortest


def _least_memory(geometry: Geometry) -> int:
    """Bytes of one image's largest tensors that live at the same time.

    The attention of one block before and after the talking heads and as an output, and the tokens
    with the hidden layer of the MLP, four times as wide.
    """
    attention = 3 * geometry.heads * geometry.patches**2
    tokens = (1 + 4 + 1) * geometry.patches * geometry.embed_dim
    return _FLOAT * (attention + tokens)


@contextlib.contextmanager
def _growth() -> Iterator[list[int]]:
    """Bytes by which the process's resident memory grew at most within the block, as `[bytes]`."""
    before = _resident()
    found = [0]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLING):
            found[0] = max(found[0], _resident() - before)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def _resident() -> int:
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0  # Not Linux: the least that it takes is known.
    return pages * resource.getpagesize()
