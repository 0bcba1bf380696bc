"""The simulation of the jobs on many workers, and what it shows of their parts."""

import pathlib

import pytest

from benchmarks.scale import (
    WORKERS,
    Stage,
    evaluation_stages,
    finish,
    main,
    publish_stages,
    simulate,
)


def test_parts_are_taken_by_workers_that_are_free() -> None:
    assert finish([5, 3, 2, 1], 1) == (11, 0.0)
    # 5 and 1 | 3 and 2: the second ends a second before the first.
    assert finish([5, 3, 2, 1], 2) == (6, 1)
    assert finish([9, 1], 4) == (9, 8)


@pytest.mark.parametrize("stages", [publish_stages(1000), evaluation_stages(50_000)])
def test_no_worker_is_alone_for_a_tenth_of_a_run_of_sixteen(stages: list[Stage]) -> None:
    _, alone = simulate(stages, 16)
    assert alone < 0.1
    runs = [simulate(stages, workers)[0] for workers in WORKERS]
    assert runs == sorted(runs, reverse=True)


def test_the_work_is_the_same_for_any_number_of_images_in_a_shard() -> None:
    (evaluation,) = evaluation_stages(50_000)
    (tenth,) = evaluation_stages(5_000)
    assert sum(evaluation.seconds) == pytest.approx(10 * sum(tenth.seconds), rel=0.05)


def test_the_page_shows_what_the_command_prints(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "scale.svg"
    assert main(["--picture", str(picture)]) == 0
    page = (pathlib.Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    for line in capsys.readouterr().out.splitlines():
        assert line in page
    assert picture.read_bytes().startswith(b"<?xml")
