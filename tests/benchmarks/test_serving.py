"""The arithmetic of the serving benchmark; what it measures is timed, and so is no test."""

import time

import pytest

from benchmarks.serving import PARTS, ends, in_turn, main, quantile
from benchmarks.table import as_markdown, machine


def test_calls_take_turns_and_the_first_rounds_are_not_counted() -> None:
    order = []

    def slow() -> None:
        order.append("slow")
        time.sleep(0.02)

    quick, other = in_turn([lambda: order.append("quick"), slow], rounds=3, warm_up=2)
    assert order == ["quick", "slow"] * 5
    assert len(quick) == len(other) == 3
    assert min(other) >= 0.02


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 51.0), (0.99, 100.0), (1.0, 100.0)])
def test_quantile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert quantile([float(n) for n in range(100, 0, -1)], share) == value


def test_ends_are_of_several_values() -> None:
    assert ends([1.0, 2.0, 90.0, 3.0, 2.0, 5.0, 9.0, 9.0, 90.0, 9.0]) == (2.0, 9.0)
    assert ends([4.0]) == (4.0, 4.0)


def test_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "overhead,laod"])
    assert ended.value.code == 2
    assert f"unknown part 'laod'; known are {', '.join(PARTS)}" in capsys.readouterr().err


def test_table_and_machine_are_for_the_readme() -> None:
    assert as_markdown(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert machine().endswith(" cores")
