"""What the pipeline's tests share: a tiny variant, for everything but the one real run."""

import pathlib
from collections.abc import Callable, Sequence

import pytest

from export.variants import VARIANTS, CaiTConfig, Variant
from tests.conftest import Result

TINY = "cait_tiny_32"


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
