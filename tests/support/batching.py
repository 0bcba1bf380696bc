"""A model that tells of the batches it was run in, and servers of it."""

import dataclasses
import pathlib
import threading
from typing import Any

import numpy as np
import tensorflow as tf

from serving.model_server.batching.parameters import BatchingParameters
from tests.support.model_server import Running, publish, running

# Longer than any test takes: what is run was a full batch.
NEVER = 3600 * 1_000_000


class Told(tf.Module):
    """Signatures that tell of the batch they were run in."""

    def __init__(self) -> None:
        super().__init__()
        self.two = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def told(self, x: Any) -> dict[str, Any]:
        """The rows of the run and the sum of all its values, beside an answer for each row."""
        alike = tf.ones_like(x)
        rows = tf.cast(tf.size(x), tf.float32)
        return {"y": x / 2 + self.two, "rows": alike * rows, "sum": alike * tf.reduce_sum(x)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="s"),
            tf.TensorSpec([None, None], tf.float32, name="m"),
        ]
    )
    def pair(self, s: Any, m: Any) -> dict[str, Any]:
        width = tf.fill([tf.shape(m)[0]], tf.shape(m)[1])
        return {"loud": s + "!", "width": width, "total": tf.reduce_sum(m, 1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def positive(self, x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.debugging.assert_positive(x, "x must be positive")]):
            return {"y": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def scalar(self, x: Any) -> dict[str, Any]:
        return {"y": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def short(self, x: Any) -> dict[str, Any]:
        return {"y": x[:1]}


def text(parameters: BatchingParameters) -> str:
    """Parameters as a text proto."""
    lines = []
    for name, value in dataclasses.asdict(parameters).items():
        if name == "allowed_batch_sizes":
            lines += [f"{name}: {size}" for size in value]
        elif name == "pad_variable_length_inputs":
            lines.append(f"{name}: {str(value).lower()}")
        elif isinstance(value, str):
            lines.append(f'{name} {{ value: "{value}" }}')
        elif value is not None:
            lines.append(f"{name} {{ value: {str(value).lower()} }}")
    return "\n".join(lines)


@dataclasses.dataclass
class Batched:
    """Starts servers with batching, and sends requests to them at the same time."""

    model: pathlib.Path
    root: pathlib.Path
    stack: Any

    def __call__(self, *positional: Any, flags: Any = None, **parameters: Any) -> Running:
        if not (self.root / "m").exists():
            (self.root / "m").mkdir()
            publish(self.root / "m" / "1", self.model)
        file = self.root / "batching_parameters.txt"
        file.write_text(text(BatchingParameters(*positional, **parameters)))
        server: Running = self.stack.enter_context(
            running(
                model_name="m",
                model_base_path=str(self.root / "m"),
                enable_batching=True,
                batching_parameters_file=str(file),
                **{"grpc_max_threads": 32, **(flags or {})},
            )
        )
        return server


def x(*values: float) -> dict[str, Any]:
    return {"x": np.array(values, np.float32)}


def waiting(server: Running) -> int:
    """How many requests wait in the queues."""
    batching = server.server._batching
    assert batching is not None
    queues = list(batching._scheduler._queues)
    return sum(len(batch.tasks) for queue in queues for batch in list(queue._batches))


def batch_threads(prefix: str) -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return sorted(name for name in names if name.startswith(prefix))
