"""How requests are batched: the text proto `BatchingParameters`, its defaults and its checks.

tensorflow-serving-api does not carry the message, so it is made here, in a pool of its own.

Source: `session_bundle_config.proto` and `bundle_factory_util.cc` of tensorflow/serving,
`shared_batch_scheduler.h` in tensorflow/core/kernels/batching_util.
"""

import dataclasses
import os
import pathlib
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

from ...errors import invalid_argument
from ...text_proto import read_text_proto

FILE_IN_VERSION = "batching_params.pbtxt"
"""A version's own parameters, in its root, with `--enable_per_model_batching_parameters`."""

# Field: its number and its type; a type with a dot is a message that holds the value.
_FIELDS = {
    "max_batch_size": (1, "google.protobuf.Int64Value"),
    "batch_timeout_micros": (2, "google.protobuf.Int64Value"),
    "max_enqueued_batches": (3, "google.protobuf.Int64Value"),
    "num_batch_threads": (4, "google.protobuf.Int64Value"),
    "thread_pool_name": (5, "google.protobuf.StringValue"),
    "allowed_batch_sizes": (6, "repeated"),
    "pad_variable_length_inputs": (7, "bool"),
    "enable_large_batch_splitting": (8, "google.protobuf.BoolValue"),
    "max_execution_batch_size": (9, "google.protobuf.Int64Value"),
}


@dataclasses.dataclass(frozen=True)
class BatchingParameters:
    """The parameters, with TF Serving's names and defaults.

    Attributes:
        max_batch_size: the most rows that a batch, and that a request, may have.
        batch_timeout_micros: microseconds that a batch waits to be filled; 0 is not at all: what
            has come while all threads were busy is a batch.
        max_enqueued_batches: the most batches that wait in one queue.
        num_batch_threads: batches run at a time, of all models together.
        thread_pool_name: what the threads are called.
        allowed_batch_sizes: a batch is filled up to the next of these; none is no filling up.
        pad_variable_length_inputs: inputs of different shapes are padded to the largest.
        enable_large_batch_splitting: a request may be run in several batches.
        max_execution_batch_size: the most rows of a batch when requests are split; None is
            `max_batch_size`.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    @property
    def execution_size(self) -> int:
        """The most rows of a batch."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    @property
    def queue_limit(self) -> int:
        """The most batches of a queue: at least one, where requests are not split."""
        if self.enable_large_batch_splitting:
            return self.max_enqueued_batches
        return max(self.max_enqueued_batches, 1)

    def check_threads(self) -> None:
        """Whether threads can be made of these parameters.

        Raises:
            ServingError: INVALID_ARGUMENT.
        """
        if self.num_batch_threads < 1:
            raise invalid_argument(
                f"num_batch_threads must be positive; was {self.num_batch_threads}"
            )

    def check_queue(self) -> None:
        """Whether a queue can be made of these parameters.

        Sizes that do not increase are an error; TF Serving takes them and fills up to the first
        that is large enough.

        Raises:
            ServingError: INVALID_ARGUMENT.
        """
        sizes = self.allowed_batch_sizes
        if sizes and sizes[-1] != self.max_batch_size:
            raise invalid_argument(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{sizes[-1]}; expected {self.max_batch_size}"
            )
        if any(size <= before for before, size in zip((0, *sizes), sizes, strict=False)):
            raise invalid_argument("allowed_batch_sizes entries must be monotonically increasing")
        if self.max_batch_size < 1:
            raise invalid_argument(
                f"input_batch_size_limit must be positive; was {self.max_batch_size}"
            )
        if self.batch_timeout_micros < 0:
            raise invalid_argument(
                f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}"
            )
        if self.queue_limit < 1:
            raise invalid_argument(f"max_enqueued_batches must be positive; was {self.queue_limit}")
        if not 1 <= self.execution_size <= self.max_batch_size:
            raise invalid_argument(
                "When enable_large_batch_splitting is true, input_batch_size_limit must be greater "
                f"than or equal to max_execution_batch_size. {self.max_batch_size} "
                f"{self.execution_size}"
            )

    def filled_up(self, size: int) -> int:
        """The rows that a batch of `size` rows is run with."""
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= size), size)


def read_batching_parameters(path: str | pathlib.Path) -> BatchingParameters:
    """The parameters in a text file; those that it does not give have their defaults.

    Raises:
        ServingError: the file is not there or no `BatchingParameters`.
    """
    message = read_text_proto(path, _Message())
    given: dict[str, Any] = {
        field.name: value.value if field.message_type else value
        for field, value in message.ListFields()
    }
    if "allowed_batch_sizes" in given:
        given["allowed_batch_sizes"] = tuple(given["allowed_batch_sizes"])
    return BatchingParameters(**given)


def _message_class() -> Any:
    types = descriptor_pb2.FieldDescriptorProto
    wrappers = wrappers_pb2.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="batching_parameters.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=[wrappers.name],
    )
    message = file.message_type.add(name="BatchingParameters")
    for name, (number, kind) in _FIELDS.items():
        field = message.field.add(name=name, number=number, label=types.LABEL_OPTIONAL)
        if kind == "repeated":
            field.label, field.type = types.LABEL_REPEATED, types.TYPE_INT64
        elif kind == "bool":
            field.type = types.TYPE_BOOL
        else:
            field.type, field.type_name = types.TYPE_MESSAGE, f".{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters")
    return message_factory.GetMessageClass(descriptor)


_Message = _message_class()
