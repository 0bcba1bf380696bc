"""Batching parameters out of measurements, as the server's own reader reads them."""

import pathlib

import pytest

from serving.model_server.batching.parameters import read_batching_parameters
from serving_configs.server.batching import (
    LARGEST_BATCH,
    LATENCY_BUDGET,
    MEMORY_BUDGET,
    Batching,
    batching_for,
    common_parameters,
)
from serving_configs.tree.latency import LatencyProfile

MIB = 2**20


@pytest.mark.parametrize(
    ("measured", "largest"),
    [
        (LatencyProfile(0.01, 8, 0.05, 8 * MIB), LARGEST_BATCH),
        # 0.1 + 3 x 0.1 is within half a second, 0.1 + 7 x 0.1 is not.
        (LatencyProfile(0.1, 8, 0.8, 8 * MIB), 4),
        (LatencyProfile(0.01, 8, 0.05, 300 * MIB), 2),
        (LatencyProfile(4.0, 1, 4.0, MIB), 1),
        (LatencyProfile(0.01, 8, 0.05, 2 * MEMORY_BUDGET), 1),
        # A machine that was busy for the first run only.
        (LatencyProfile(0.5, 8, 0.2, MIB), LARGEST_BATCH),
    ],
)
def test_the_largest_batch_is_within_the_budgets(
    measured: LatencyProfile, largest: int, tmp_path: pathlib.Path
) -> None:
    batching = batching_for(measured)
    assert batching.max_execution_batch_size == largest
    if largest > 1:
        assert measured.predicted(largest) <= LATENCY_BUDGET
        assert largest * measured.memory_per_image <= MEMORY_BUDGET
    path = tmp_path / "batching_params.pbtxt"
    path.write_text(batching.as_text())
    found = read_batching_parameters(path)
    # The checks of a server when it makes a queue of them.
    found.check_queue()
    found.check_threads()
    assert found.execution_size == largest
    assert list(batching.sizes) == [2**n for n in range(largest.bit_length())]
    # The largest request is split, and all of its parts fit in an empty queue.
    assert found.enable_large_batch_splitting
    assert found.allowed_batch_sizes == (*batching.sizes, found.max_batch_size)
    assert largest < found.max_batch_size <= min(64, largest * found.max_enqueued_batches)
    assert found.batch_timeout_micros <= 5000
    assert found.batch_timeout_micros <= 1e6 * measured.latency / 2
    assert 1 <= found.max_enqueued_batches <= 100


def test_a_batch_of_one_does_not_wait() -> None:
    assert batching_for(LatencyProfile(4.0, 1, 4.0, MIB)).batch_timeout_micros == 0


def test_the_common_file_suits_every_model(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "batching_parameters.txt"
    models = [Batching((1, 2, 4), 500, 7), Batching((1, 2), 900, 9)]
    path.write_text(common_parameters(models))
    found = read_batching_parameters(path)
    found.check_queue()
    assert (found.execution_size, found.batch_timeout_micros) == (2, 500)
    assert found.allowed_batch_sizes == (1, 2, 14)
    assert found.max_enqueued_batches == 7
    # Its threads are those of the server's processors.
    assert "num_batch_threads" not in path.read_text()
    path.write_text(common_parameters([]))
    assert read_batching_parameters(path).execution_size == 1
