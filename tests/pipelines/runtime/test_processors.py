"""TensorFlow's threads in a worker."""

import os
import subprocess
import sys

import pytest

from pipelines.publish.options import parse
from pipelines.runtime.processors import limit_tensorflow_threads
from pipelines.runtime.workers import local_workers

pytestmark = pytest.mark.slow

NAMES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
FLAGS = ["--checkpoints=random", "--sample_shard=sample", "--publish_to=tree"]

THREADS = """
from pipelines.runtime.quiet import load_tensorflow
load_tensorflow()
import os
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.parametrize(
    ("processors", "workers", "within", "beside"),
    [(2, 1, "1", "2"), (2, 2, "1", "2"), (16, 1, "8", "16"), (16, 4, "2", "16"), (1, 1, "1", "1")],
)
def test_streams_and_workers_share_the_processors(
    processors: int, workers: int, within: str, beside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(processors))
    limit_tensorflow_threads(workers)
    assert [os.environ[name] for name in NAMES] == [within, beside]
    # The first that asks decides, and before that whoever starts the process.
    limit_tensorflow_threads(workers * 64)
    assert [os.environ[name] for name in NAMES] == [within, beside]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], 1),
        (["--direct_running_mode=multi_processing", "--direct_num_workers=3"], 3),
        (["--direct_running_mode=multi_processing", "--direct_num_workers=0"], os.cpu_count()),
        # Threads of one process share its TensorFlow.
        (["--direct_running_mode=multi_threading", "--direct_num_workers=3"], 1),
    ],
)
def test_processes_of_beams_own_runner(flags: list[str], expected: int) -> None:
    assert local_workers(parse([*FLAGS, *flags])[1]) == expected


def test_tensorflow_makes_as_many_threads() -> None:
    counts = []
    for within, beside in ((1, 1), (3, 1), (3, 5)):
        environment = dict(zip(NAMES, (str(within), str(beside)), strict=True))
        done = subprocess.run(
            [sys.executable, "-c", THREADS],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        counts.append(int(done.stdout))
    assert [count - counts[0] for count in counts] == [0, 2, 6]
