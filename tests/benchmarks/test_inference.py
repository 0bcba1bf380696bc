"""The arithmetic of the inference benchmark, and what it says of wrong flags; nothing is timed."""

import pathlib
import sys

import pytest

import benchmarks.speed
from benchmarks.files import graph_size, growth
from benchmarks.inference import main
from benchmarks.interleaved import Command, Competitor, CompetitorError, measure
from benchmarks.speed import (
    BOUNDS,
    GEMM_SIZE,
    LIMIT,
    LOAD_BOUNDS,
    bounds_table,
    ratio,
    ratios,
    times,
    with_limit,
)

# Answers as a competitor; its call of a batch takes as many hundredths of a second.
COMPETITOR = """
import time
from benchmarks.competitors import answer

def prepare(batch):
    if batch == {fails_at}:
        raise SystemExit("out of memory")
    print("a library says something")
    return {{"wait": lambda: time.sleep(batch / 100), "no time": lambda: None}}

answer(prepare)
"""
ROUNDS = {
    "`logits`": [0.1, 0.2, 0.9],
    "plain port": [0.2, 0.5, 1.0],
    "OpenVINO": [0.1, 0.1, 0.1],
    "gemm by TensorFlow": [0.2, 0.4, 0.2],
    "gemm by NumPy": [0.4, 0.1, 0.4],
}


def command(name: str, fails_at: int = 0) -> Command:
    script = COMPETITOR.format(fails_at=fails_at)
    columns = {"wait": name, "no time": f"{name}, no time"}
    return Command((sys.executable, "-c", script), columns)


@pytest.mark.slow
def test_competitors_are_timed_round_by_round_and_one_that_fails_is_left_out(
    capfd: pytest.CaptureFixture[str],
) -> None:
    found = measure([command("one"), command("other", fails_at=2)], [1, 2], rounds=3)
    assert {batch: set(rounds) for batch, rounds in found.items()} == {
        1: {"one", "one, no time", "other", "other, no time"},
        2: {"one", "one, no time"},
    }
    assert all(len(seconds) == 3 for rounds in found.values() for seconds in rounds.values())
    # A time is that of the call that it stands for.
    assert min(found[2]["one"]) >= 0.02
    out, err = capfd.readouterr()
    assert err == "left out: other, other, no time: ended with 1: out of memory\n"
    assert not out


@pytest.mark.slow
def test_under_load_an_image_takes_its_share_of_the_time_of_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As long as fifty calls.
    monkeypatch.setattr("benchmarks.interleaved._LOAD_SECONDS", 0.5)
    found = measure([command("one")], [1, 4], rounds=1, clients=True)
    # A call waits for 0.01 s, and so do four at a time.
    assert found[1]["one"][0] >= 0.01
    assert 0.0025 <= found[4]["one"][0] < found[1]["one"][0]


def test_competitor_that_is_not_there_says_why() -> None:
    competitor = Competitor(Command((sys.executable, "-c", "import nothing_of_this_name"), {}))
    with pytest.raises(CompetitorError, match=r"ended with 1: .*nothing_of_this_name"):
        competitor.prepare(1)
    competitor.close()


def test_limit_is_that_of_the_faster_product_of_the_round() -> None:
    # As many multiply-adds as two of the products.
    found = with_limit(ROUNDS, 2 * GEMM_SIZE**3 / 1e9 / 8, 8)[LIMIT]
    assert found == pytest.approx([0.4, 0.2, 0.4])


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    by_name = {bound.name: bound for bound in BOUNDS}
    assert ratio(ROUNDS, by_name["`logits` / plain port"]) == 0.5
    assert ratio(ROUNDS, by_name["`logits` / timm eager"]) is None


def test_bounds_depend_on_the_size_of_the_images_and_the_worst_model_counts() -> None:
    slower = {**ROUNDS, "`logits`": [0.12, 0.12, 0.12]}
    found = {("cait_xxs24_224", 1): slower, ("cait_xxs24_384", 1): slower}
    found["cait_s24_224", 8] = {**ROUNDS, "`logits`": [0.14, 0.14, 0.14]}
    lines = {r.what: (r.figure, r.bound, r.holds) for r in bounds_table(found)}
    name = "`logits` / OpenVINO"
    assert lines[f"{name}, 224, worst of 2"] == ("1.400 (cait_s24_224, batch 8)", "1.30", False)
    assert lines[f"{name}, 384 and above, worst of 1"] == (
        "1.200 (cait_xxs24_384, batch 1)",
        "1.00",
        False,
    )
    holds = lines["`logits` / plain port, worst of 3"]
    assert holds == ("0.280 (cait_s24_224, batch 8)", "0.55", True)


def test_bounds_of_bfloat16_count_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds = {
        "`logits`, for throughput": [0.3],
        "`logits`, bfloat16, for throughput": [0.2],
        "OpenVINO, its default": [0.1],
    }
    found = {
        ("cait_xxs24_224", 4): rounds,
        ("cait_s24_224", 16): rounds,
        ("cait_s24_224", 1): rounds,
    }
    monkeypatch.setattr(benchmarks.speed, "narrow_instructions", lambda: False)
    assert bounds_table(found, LOAD_BOUNDS, "clients") == []
    monkeypatch.setattr(benchmarks.speed, "narrow_instructions", lambda: True)
    lines = [(r.what, r.figure, r.bound) for r in bounds_table(found, LOAD_BOUNDS, "clients")]
    name = "`logits`, bfloat16, for throughput"
    assert lines == [
        (
            f"{name} / OpenVINO, its default, S and M, worst of 1",
            "2.000 (cait_s24_224, clients 16)",
            "1.00",
        ),
        (
            f"{name} / OpenVINO, its default, XXS and XS, worst of 1",
            "2.000 (cait_xxs24_224, clients 4)",
            "1.05",
        ),
        (
            f"{name} / `logits`, for throughput, S and M, worst of 1",
            "0.667 (cait_s24_224, clients 16)",
            "0.50",
        ),
    ]


def test_tables_have_what_was_measured() -> None:
    found = {("cait_xxs24_224", 1): ROUNDS, ("cait_xxs24_384", 8): {"`logits`": [0.0123]}}
    assert times(found).splitlines() == [
        "| model | batch | `logits` | plain port | OpenVINO |",
        "| --- | --- | --- | --- | --- |",
        "| cait_xxs24_224 | 1 | 200 | 500 | 100 |",
        "| cait_xxs24_384 | 8 | 12.3 |  |  |",
    ]
    assert ratios(found).splitlines()[2:] == [
        "| cait_xxs24_224 | 1 | 0.50 | **2.00** |",
        "| cait_xxs24_384 | 8 |  |  |",
    ]


def test_growth_of_the_graph_is_held_to_that_of_the_blocks() -> None:
    sizes = {"cait_xxs24_224": 2_000_000, "cait_s24_224": 2_100_000, "cait_m48_448": 4_000_000}
    (result,) = growth(sizes)
    assert (result.figure, result.bound, result.holds) == ("2.00", "2.00, as the blocks", True)
    assert not growth({**sizes, "cait_m48_448": 4_000_001})[0].holds
    assert growth({"cait_xxs24_224": 1, "cait_s24_224": 2}) == []
    assert graph_size("cait_xxs24_224", 2_500_000).holds
    assert not graph_size("cait_xxs24_224", 2_500_001).holds
    assert graph_size("cait_m48_448", 9_600_000).figure == "9.60 MB (200 kB for each of 48 blocks)"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--only", "sped"],
            "--only: unknown part 'sped'; known are speed, load, attention, files",
        ),
        (["--variants", "cait_xxs24"], "--variants: unknown variant 'cait_xxs24'; did you mean"),
        (["--batches", "1,x"], "--batches 1,x; expected numbers from 1"),
        (["--clients", "4,0"], "--clients 4,0; expected numbers from 1"),
        (["--rounds", "0"], "--rounds 0; expected a number from 1"),
        (["--competitors", "no/python"], "--competitors: no/python is no file"),
    ],
)
def test_wrong_flag_is_refused_before_anything_is_made(
    flags: list[str], said: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*flags, "--work", str(tmp_path / "work")])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
