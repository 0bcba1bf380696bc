"""The memory of tensors, which a worker gives back."""

import os
import subprocess
import sys

import pytest

from pipelines.runtime.heap import ALLOCATOR

pytestmark = pytest.mark.slow

# 440 MB of tensors as large as weights, made, deleted and given back.
TENSORS = """
import contextlib
import os
import sys
from export.memory import release_memory
from pipelines.runtime.heap import large_tensors_apart
from pipelines.runtime.quiet import load_tensorflow

def megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1000000

load_tensorflow()
import tensorflow as tf
before = megabytes()
with large_tensors_apart() if "apart" in sys.argv else contextlib.nullcontext():
    tensors = [tf.ones((1100, 1000)) for _ in range(100)]
had = megabytes() - before
del tensors
kept = megabytes() - before
release_memory()
print(had, kept, megabytes() - before)
"""


def measured(setting: str | None, *arguments: str) -> list[int]:
    """Megabytes of the process with the tensors, without them, and once they were given back."""
    environment = {key: value for key, value in os.environ.items() if key != ALLOCATOR}
    done = subprocess.run(
        [sys.executable, "-c", TENSORS, *arguments],
        env=environment if setting is None else {**environment, ALLOCATOR: setting},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(number) for number in done.stdout.split()]


# A worker's environment is that of the command which has loaded TensorFlow before.
@pytest.mark.parametrize("inherited", [None, "1"])
def test_memory_is_kept_until_it_is_given_back(inherited: str | None) -> None:
    had, kept, given_back = measured(inherited)
    assert 420 < had < 520
    # Pages that are asked for anew for every tensor would have to be filled with zeros.
    assert kept > 420
    assert given_back < 60


def test_large_tensors_that_are_apart_go_at_once() -> None:
    had, kept, given_back = measured(None, "apart")
    assert 420 < had < 520
    assert max(kept, given_back) < 60


@pytest.mark.parametrize("arguments", [(), ("apart",)])
def test_the_environment_decides(arguments: tuple[str, ...]) -> None:
    assert min(measured("0", *arguments)) > 420
