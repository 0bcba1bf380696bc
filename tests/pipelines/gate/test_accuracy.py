"""Accuracies, their intervals, and when a count contradicts a published one."""

import pytest
import scipy.stats

from export.errors import UserError
from pipelines.elements import Shard
from pipelines.gate.accuracy import accuracy_gate, contradiction, proportion, require_labels


@pytest.mark.parametrize(("correct", "images"), [(1, 10), (1327, 2000), (39262, 50000)])
def test_interval_is_that_of_clopper_and_pearson(correct, images):
    found = proportion(correct, images)
    assert found is not None
    assert found.percent == pytest.approx(100 * correct / images)
    # By its definition: at its ends a count at least, or at most, this far off has a chance of
    # 2.5 %.
    binomial = scipy.stats.binom
    assert binomial.sf(correct - 1, images, found.low / 100) == pytest.approx(0.025)
    assert binomial.cdf(correct, images, found.high / 100) == pytest.approx(0.025)


def test_interval_of_none_and_of_all():
    none, every = proportion(0, 10), proportion(10, 10)
    assert none is not None
    assert every is not None
    assert none.low == 0
    assert none.high == pytest.approx(100 * (1 - 0.025 ** (1 / 10)))
    assert every.high == 100
    assert proportion(0, 0) is None


def test_contradiction_says_what_was_counted_and_what_was_expected():
    assert contradiction(785, 1000, 78.524) is None
    assert contradiction(8, 8, 78.524) is None
    line = contradiction(1, 8, 78.524)
    assert line is not None
    assert line.startswith("top-1 is right on 1 of 8 images; the published 78.524 % is 6.3 of them")
    assert f"p = {scipy.stats.binomtest(1, 8, 0.78524).pvalue:.2g}; at least 0.001" in line


def test_gate_that_is_on_has_to_have_labels():
    require_labels("on", [Shard("a", 4, ()), Shard("b", 4, (), labelled=1)])
    require_labels("auto", [Shard("a", 4, ())])
    with pytest.raises(UserError, match="--accuracy_gate on: no image of --sample_shard has"):
        require_labels("on", [Shard("a", 4, ())])
    with pytest.raises(UserError, match="--accuracy_gate 'yes'; expected auto, on, off"):
        accuracy_gate("yes")
