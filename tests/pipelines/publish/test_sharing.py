"""What each of Beam's workers on a machine is given of a run."""

import collections
import contextlib
import dataclasses
import pathlib
import threading
import time
from typing import Any

import pytest

from export.variants import VARIANTS
from pipelines.publish.command import main
from pipelines.runtime.progress import ImageCounter

pytestmark = pytest.mark.slow

LONGEST = {"cait_m48_448", "cait_m36_384"}
NAMES = ("cait_xxs24_224", "cait_m36_384", "cait_xxs24_384", "cait_m48_448")


@pytest.fixture(autouse=True)
def few_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the variants one block each: what is known of their cost stays, not their size."""
    for name in NAMES:
        variant = VARIANTS[name]
        config = dataclasses.replace(variant.config, sa_blocks=1)
        monkeypatch.setitem(VARIANTS, name, dataclasses.replace(variant, config=config))


def test_the_two_longest_variants_go_to_two_workers(
    tmp_path: pathlib.Path, shards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, dict[int, list[str]]] = {
        step: collections.defaultdict(list) for step in ("convert", "validate")
    }
    # Both are at work at a time: a thread that is done with one worker's would do the other's, too.
    both = threading.Barrier(2, timeout=60)

    def convert(variant: str, *_: Any) -> None:
        both.wait()
        given["convert"][threading.get_ident()].append(variant)
        raise ValueError("not wanted here")

    def finish(counter: ImageCounter) -> None:
        both.wait()
        model = counter._step.model.removesuffix("_fe")
        given["validate"][threading.get_ident()].append(model)

    monkeypatch.setattr("export.convert.convert", convert)
    monkeypatch.setattr(ImageCounter, "finish", finish)
    # Those in processes do not wait for one another's models.
    monkeypatch.setattr("pipelines.publish.transforms.ONE_MODEL", contextlib.nullcontext())
    status = main(
        [
            *("--variants", ",".join(NAMES), "--checkpoints", "random"),
            # One file: of two each worker would be given one, for every model.
            *("--sample_shard", shards.replace("*", "00000*")),
            *("--publish_to", str(tmp_path / "tree")),
            # Workers as in processes, which share a stage's elements in the same way.
            *("--direct_running_mode", "multi_threading", "--direct_num_workers", "2"),
        ]
    )
    assert status == 1
    for step, workers in given.items():
        assert {v for variants in workers.values() for v in variants} == set(NAMES), step
        together = [variants for variants in workers.values() if set(variants) >= LONGEST]
        assert not together, f"{step}: one worker has both of {sorted(LONGEST)}: {together}"
        # And starts with it.
        assert {variants[0] for variants in workers.values()} == LONGEST, step


def test_a_worker_works_on_one_model_at_a_time(
    tmp_path: pathlib.Path, shards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[str] = []
    together: list[int] = []

    def convert(variant: str, *_: Any) -> None:
        at_work.append(variant)
        together.append(len(at_work))
        time.sleep(0.2)
        at_work.remove(variant)
        raise ValueError("not wanted here")

    monkeypatch.setattr("export.convert.convert", convert)
    status = main(
        [
            *("--variants", ",".join(NAMES), "--checkpoints", "random"),
            *("--sample_shard", shards, "--publish_to", str(tmp_path / "tree")),
            # As an engine elsewhere may give a worker several steps at once.
            *("--direct_running_mode", "multi_threading", "--direct_num_workers", "4"),
        ]
    )
    assert status == 1
    assert together == [1] * len(NAMES)
