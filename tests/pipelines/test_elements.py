"""Figures and what is decided by them."""

import math

from pipelines.elements import OutputDifference, add_seconds


def figure(difference: float, image: str = "cat.jpg") -> OutputDifference:
    return OutputDifference("serving_default", "logits", difference, 1e-4, image)


def test_figure_holds_up_to_its_bound():
    assert figure(1e-4).within_tolerance
    assert not figure(1.1e-4).within_tolerance
    assert not figure(math.nan).within_tolerance


def test_worse_keeps_the_larger_difference_and_nan_above_all():
    assert figure(1.0).worse(figure(2.0)) == figure(2.0)
    assert figure(2.0).worse(figure(1.0)) == figure(2.0)
    assert math.isnan(figure(1.0).worse(figure(math.nan)).difference)
    assert math.isnan(figure(math.nan).worse(figure(1.0)).difference)


def test_seconds_are_summed_by_step():
    assert add_seconds({"a": 1.0}, {"a": 2.0, "b": 3.0}) == {"a": 3.0, "b": 3.0}
