"""What the pipeline's tests share: a tiny variant, for everything but the one real run."""

import contextlib
import pathlib
from collections.abc import Callable, Sequence

import pytest

from export.variants import VARIANTS, Variant
from tests.support.conversions import conversions_reused
from tests.support.trees import TINY, TINY_VARIANT, Result


@pytest.fixture
def tiny_variant(monkeypatch: pytest.MonkeyPatch) -> Variant:
    """A variant of two blocks beside the ten, for runs within this process."""
    monkeypatch.setitem(VARIANTS, TINY, TINY_VARIANT)
    return TINY_VARIANT


@pytest.fixture
def publish_tiny(
    tiny_variant: Variant, tmp_path: pathlib.Path, shards: str, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Runs the command within this process on the tiny variant; flags given replace its own.

    Those in `without` are left out. With `anew` models are converted whether or not another test
    has done so.
    """
    from pipelines.publish.command import main

    def run(
        *flags: str,
        tree: pathlib.Path = tmp_path / "tree",
        without: tuple[str, ...] = (),
        anew: bool = False,
    ) -> Result:
        defaults = {
            "--variants": TINY,
            "--checkpoints": "random",
            "--sample_shard": shards,
            "--publish_to": str(tree),
        }
        argv: Sequence[str] = [
            part
            for name, value in defaults.items()
            if name not in (*flags, *without)
            for part in (name, value)
        ]
        capfd.readouterr()
        with contextlib.nullcontext() if anew else conversions_reused():
            status = main([*argv, *flags])
        captured = capfd.readouterr()
        return Result(status, captured.out, captured.err, tree)

    return run
