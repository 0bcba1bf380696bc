"""How requests are batched: the text proto `BatchingParameters`, its defaults and its checks.

Source: `session_bundle_config.proto` and `bundle_factory_util.cc` of tensorflow/serving,
`shared_batch_scheduler.h` in tensorflow/core/kernels/batching_util.
"""

import dataclasses
import os
import pathlib
from typing import Any

from ...errors import invalid_argument
from ...text_proto import message_class, read_text_proto

_Message = message_class(
    "BatchingParameters",
    """
    message BatchingParameters {
      google.protobuf.Int64Value max_batch_size = 1;
      google.protobuf.Int64Value batch_timeout_micros = 2;
      google.protobuf.Int64Value max_enqueued_batches = 3;
      google.protobuf.Int64Value num_batch_threads = 4;
      google.protobuf.StringValue thread_pool_name = 5;
      repeated int64 allowed_batch_sizes = 6;
      bool pad_variable_length_inputs = 7;
      google.protobuf.BoolValue enable_large_batch_splitting = 8;
      google.protobuf.Int64Value max_execution_batch_size = 9;
    }
    """,
)


@dataclasses.dataclass(frozen=True)
class BatchingParameters:
    """The parameters, with TF Serving's names and defaults.

    Attributes:
        max_batch_size: the most rows of a batch, and of a request.
        batch_timeout_micros: microseconds that a batch waits for more requests; with 0 a batch has
            what arrived while all threads were busy.
        max_enqueued_batches: the most batches in one queue.
        num_batch_threads: batches of all models that run at a time.
        thread_pool_name: prefix of the threads' names.
        allowed_batch_sizes: a batch is padded to the next of these sizes; empty is no padding.
        pad_variable_length_inputs: inputs of different shapes are padded to the largest.
        enable_large_batch_splitting: a request may be split into several batches.
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
        """The most batches of a queue, at least one where requests are not split."""
        if self.enable_large_batch_splitting:
            return self.max_enqueued_batches
        return max(self.max_enqueued_batches, 1)

    def check_threads(self) -> None:
        """Checks the parameters of the threads.

        Raises:
            ServingError: INVALID_ARGUMENT.
        """
        if self.num_batch_threads < 1:
            raise invalid_argument(
                f"num_batch_threads must be positive; was {self.num_batch_threads}"
            )

    def check_queue(self) -> None:
        """Checks the parameters of a queue.

        Sizes that do not increase are an error; TF Serving accepts them and pads to the first that
        is large enough.

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

    def padded_size(self, size: int) -> int:
        """The number of rows, with padding, of a batch of `size` rows."""
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= size), size)


def read_batching_parameters(path: str | pathlib.Path) -> BatchingParameters:
    """The parameters of a text file; missing ones have their defaults.

    Raises:
        ServingError: the file does not exist or is not a `BatchingParameters`.
    """
    parameters: dict[str, Any] = {
        field.name: value.value if field.message_type else value
        for field, value in read_text_proto(path, _Message()).ListFields()
    }
    if "allowed_batch_sizes" in parameters:
        parameters["allowed_batch_sizes"] = tuple(parameters["allowed_batch_sizes"])
    return BatchingParameters(**parameters)
