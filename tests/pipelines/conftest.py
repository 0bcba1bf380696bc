"""What the pipeline's tests share: one real run, and a tiny variant for everything else."""

import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from export.variants import VARIANTS, CaiTConfig, Variant

REPOSITORY = pathlib.Path(__file__).parents[2]
REAL = "cait_xxs24_224"
TINY = "cait_tiny_32"


@dataclasses.dataclass(frozen=True)
class Result:
    """How a command ended, and the tree that it published to."""

    status: int
    stdout: str
    stderr: str
    tree: pathlib.Path


@pytest.fixture(scope="session")
def shards(data: pathlib.Path) -> str:
    return str(data / "sample-shard-*")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, shards: str) -> Result:
    """The main job as `make export` runs it, but for where it publishes to."""
    tree = tmp_path_factory.mktemp("published")
    command = [
        *(sys.executable, "-m", "pipelines.publish"),
        *("--variants", REAL, "--checkpoints", "random"),
        *("--sample_shard", shards, "--publish_to", str(tree)),
    ]
    # As from a user's shell, which says nothing of TensorFlow's log.
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    return Result(done.returncode, done.stdout, done.stderr, tree)


@pytest.fixture
def tiny_variant(monkeypatch: pytest.MonkeyPatch) -> Variant:
    """A variant of two blocks beside the ten, for runs within this process."""
    config = CaiTConfig(32, 16, 32, 2, 2, num_classes=1000)
    variant = Variant(TINY, config, 0, 0.0, 0.0, 0.0, "")
    monkeypatch.setitem(VARIANTS, TINY, variant)
    return variant


@pytest.fixture
def publish_tiny(
    tiny_variant: Variant, tmp_path: pathlib.Path, shards: str, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Runs the command within this process on the tiny variant; flags given replace its own."""
    from pipelines.publish import main

    def run(*flags: str, tree: pathlib.Path = tmp_path / "tree") -> Result:
        defaults = {
            "--variants": TINY,
            "--checkpoints": "random",
            "--sample_shard": shards,
            "--publish_to": str(tree),
        }
        argv: Sequence[str] = [
            part for name, value in defaults.items() if name not in flags for part in (name, value)
        ]
        capfd.readouterr()
        status = main([*argv, *flags])
        captured = capfd.readouterr()
        return Result(status, captured.out, captured.err, tree)

    return run
