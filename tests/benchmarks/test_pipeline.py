"""The arithmetic of the pipeline's benchmark, and what it measures of processes."""

import json
import pathlib
import sys

import pytest

import benchmarks.pipeline
from benchmarks.pipeline import (
    HEADER,
    STEPS,
    Run,
    by_variant,
    in_time,
    line,
    main,
    plan,
    write_sample,
)
from benchmarks.process_tree import Ended, run
from pipelines.data.shards import read_shard
from tests.support.trees import Result

MODEL = {
    "variant": "cait_xxs24_224",
    "path": "somewhere",
    "seconds": {"build": 1.0, "assign": 2.0, "write": 3.0, "load": 4.0, "compare": 5.0},
}
REPORT = {"models": [MODEL, {**MODEL, "seconds": {"write": 30.0, "publish": 0.5}}]}
ENDED = Ended(0, 60.0, 2_340_000_000, "")

# 100 MB in a child of a child, while its parents wait.
HOLDS = "import time; held = b'x' * 100_000_000; time.sleep(1.5)"
STARTS = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {HOLDS!r}]) + 3)"
STARTS = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {STARTS!r}]))"


def test_plan_has_each_run_once() -> None:
    names = ["cait_xxs24_224", "cait_s24_224"]
    one, two = (names[0],), tuple(names)
    assert plan(["variants"], names, [2, 8], [0, 2]) == [Run(one), Run(two)]
    assert plan(["variants", "images", "workers", "all"], names, [2, 8], [0, 2]) == [
        *(Run(one), Run(two), Run(one, 2), Run(two, workers=2)),
    ]


def test_line_sums_the_steps_of_all_models() -> None:
    cells = dict(zip(HEADER, line(Run(("cait_xxs24_224",)), ENDED, REPORT), strict=True))
    assert cells == {
        "variants": "cait_xxs24_224",
        "images": "8",
        "workers": "in process",
        "read": "2.0",
        "build": "1.0",
        "write": "33.0",
        "reference": "0.0",
        "validation": "9.0",
        "measurement": "0.0",
        "publish": "0.5",
        "rest": "14.5",
        "whole run": "60.0",
        "peak memory, GB": "2.34",
    }
    cells = dict(zip(HEADER, line(Run(("a", "b"), 4, 2), ENDED, REPORT), strict=True))
    assert (cells["variants"], cells["workers"], cells["rest"]) == ("2", "2", "")


def test_variants_are_told_apart() -> None:
    other = {**MODEL, "variant": "cait_s24_224"}
    lines = by_variant({"models": [*REPORT["models"], other]}).splitlines()
    assert len(lines) == 2 + 10
    assert lines[2] == "| cait_xxs24_224 | 2.0 | 1.0 | 33.0 | 0.0 | 9.0 | 0.0 | 0.5 | 45.5 |"
    assert "| cait_s24_224 | 2.0 | 1.0 | 3.0 | 0.0 | 9.0 | 0.0 | 0.0 | 15.0 |" in lines


def test_steps_are_those_of_a_real_report(published: Result) -> None:
    report = json.loads((published.tree / "report.json").read_text())
    known = {step for those in STEPS.values() for step in those}
    assert {step for model in report["models"] for step in model["seconds"]} == known


def test_run_that_refuses_a_model_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.pipeline.published(Run(("cait_xxs24_224",)), ENDED, REPORT).holds
    refused = {"models": [MODEL, {**MODEL, "path": ""}]}
    failed = Ended(1, 60.0, 1, "refused: a model")
    assert not benchmarks.pipeline.published(Run(("cait_xxs24_224",)), failed, refused).holds
    assert capsys.readouterr().err == "refused: a model\n"
    assert not benchmarks.pipeline.published(Run(("a", "b")), ENDED, REPORT).holds


def test_bound_of_the_whole_run() -> None:
    assert in_time(Ended(0, 900.0, 1, "")).holds
    assert not in_time(Ended(0, 900.1, 1, "")).holds


def test_sample_has_as_many_images_as_asked_for(tmp_path: pathlib.Path, shards: str) -> None:
    write_sample(tmp_path, 11)
    (path,) = tmp_path.glob("sample-*")
    images = [image.encoded for image in read_shard(str(path))]
    assert len(images) == 11
    assert len(set(images)) == 8
    assert images[8:] == images[:3]


@pytest.mark.slow
def test_memory_is_that_of_all_processes(tmp_path: pathlib.Path) -> None:
    ended = run([sys.executable, "-c", STARTS], tmp_path / "log")
    assert ended.status == 3
    assert ended.seconds >= 1.5
    assert 110e6 < ended.peak < 300e6
    assert run([sys.executable, "-c", "print('said')"], tmp_path / "log").said == "said\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--only", "image"], "--only: unknown part 'image'; known are variants, images, workers"),
        (["--variants", "cait_xs"], "--variants: unknown variant 'cait_xs'; did you mean"),
        (["--images", "1"], "--images 1; expected numbers from 2, separated by commas"),
        (["--workers", "two"], "--workers two; expected numbers from 0, separated by commas"),
    ],
)
def test_wrong_flag_is_refused(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
