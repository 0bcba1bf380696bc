"""`BatchingParameters`: its text form, its defaults and what is refused."""

import os
import pathlib
from typing import Any

import pytest

from serving.errors import ServingError
from serving.model_server.batching.parameters import BatchingParameters, read_batching_parameters


def test_all_fields_are_read(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "batching_parameters.txt"
    file.write_text(
        """
        # As tensorflow_model_server reads it.
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 1500 }
        max_enqueued_batches { value: 20 }
        num_batch_threads { value: 3 }
        thread_pool_name { value: "pool" }
        allowed_batch_sizes: 8
        allowed_batch_sizes: [64, 128]
        pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 64 }
        """
    )
    parameters = read_batching_parameters(file)
    assert parameters == BatchingParameters(
        max_batch_size=128,
        batch_timeout_micros=1500,
        max_enqueued_batches=20,
        num_batch_threads=3,
        thread_pool_name="pool",
        allowed_batch_sizes=(8, 64, 128),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=64,
    )
    parameters.check_queue()
    assert parameters.execution_size == 64


def test_what_is_not_given_has_tf_servings_default(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "batching_parameters.txt"
    file.write_text("")
    parameters = read_batching_parameters(file)
    assert parameters == BatchingParameters(
        max_batch_size=1000,
        batch_timeout_micros=0,
        max_enqueued_batches=10,
        num_batch_threads=len(os.sched_getaffinity(0)),
        thread_pool_name="batch_threads",
    )
    assert not parameters.allowed_batch_sizes
    assert parameters.execution_size == 1000
    parameters.check_threads()
    parameters.check_queue()


@pytest.mark.parametrize("text", ["max_batch_size: 3", "max_batch { value: 3 }", "{"])
def test_other_text_is_an_error(text: str, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "b.txt"
    file.write_text(text)
    with pytest.raises(ServingError) as caught:
        read_batching_parameters(file)
    assert str(caught.value).startswith(f"INVALID_ARGUMENT: Invalid protobuf file: '{file}': ")
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ServingError, match=r"NOT_FOUND: .*/b\.txt; No such file or directory"):
        read_batching_parameters(tmp_path / "b.txt")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"max_batch_size": 16, "allowed_batch_sizes": (4, 8)},
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; "
            "expected 16",
        ),
        (
            {"allowed_batch_sizes": (4, 8)},
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; "
            "expected 1000",
        ),
        (
            {"max_batch_size": 8, "allowed_batch_sizes": (4, 2, 8)},
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
        (
            {"max_batch_size": 8, "allowed_batch_sizes": (0, 8)},
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
        ({"max_batch_size": 0}, "input_batch_size_limit must be positive; was 0"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be non-negative; was -1"),
        (
            {"max_enqueued_batches": 0, "enable_large_batch_splitting": True},
            "max_enqueued_batches must be positive; was 0",
        ),
        (
            {
                "max_batch_size": 8,
                "max_execution_batch_size": 9,
                "enable_large_batch_splitting": True,
            },
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater "
            "than or equal to max_execution_batch_size. 8 9",
        ),
    ],
)
def test_what_no_queue_can_be_made_of(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ServingError) as caught:
        BatchingParameters(**fields).check_queue()
    assert str(caught.value) == f"INVALID_ARGUMENT: {message}"


def test_threads_there_have_to_be() -> None:
    with pytest.raises(ServingError) as caught:
        BatchingParameters(num_batch_threads=0).check_threads()
    assert str(caught.value) == "INVALID_ARGUMENT: num_batch_threads must be positive; was 0"


def test_a_queue_holds_one_batch_at_least() -> None:
    assert BatchingParameters(max_enqueued_batches=0).queue_limit == 1


def test_the_size_of_an_execution_counts_only_with_splitting() -> None:
    assert BatchingParameters(max_batch_size=8, max_execution_batch_size=4).execution_size == 8


def test_batches_are_filled_up_to_the_next_size() -> None:
    parameters = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(1, 4, 8))
    assert [parameters.padded_size(size) for size in (1, 2, 4, 5, 8)] == [1, 4, 4, 8, 8]
    assert BatchingParameters().padded_size(7) == 7
