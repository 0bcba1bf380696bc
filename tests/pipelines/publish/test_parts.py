"""The parts of a validation hold every image once, and are as small as a variant is slow."""

import json
from collections.abc import Callable

import pytest

from export.variants import VARIANTS
from pipelines.elements import Shard
from pipelines.publish import parts
from pipelines.publish.parts import parts_for
from pipelines.runtime.workers import dealt_evenly
from tests.support.trees import Result

SHARDS = (Shard("/a/one", 500, (3, 4)), Shard("/a/two", 8, ()))


@pytest.mark.parametrize(("variant", "count"), [("cait_m48_448", 20), ("cait_xxs24_224", 2)])
def test_parts_of_a_variant(variant: str, count: int) -> None:
    found = parts_for(VARIANTS[variant], SHARDS)
    assert len(found) == count
    assert [part.number for part in found] == list(range(count))
    assert [part.measure for part in found] == [True] + [False] * (count - 1)
    records = [(part.path, part.first + i) for part in found for i in range(part.images)]
    assert records == [(shard.path, i) for shard in SHARDS for i in range(shard.images)]
    sizes = [part.images for part in found if part.path == "/a/one"]
    assert max(sizes) - min(sizes) <= 1
    names = [part.name for part in found]
    assert len(set(names)) == count
    assert names[-1] == "two"


def test_two_workers_have_as_much_to_do() -> None:
    (shard,) = (Shard("/a/one", 8, (3, 4)),)
    costs = {name: parts.cost_of(variant, shard) for name, variant in VARIANTS.items()}
    order = dealt_evenly(costs, 2)
    assert order[:2] == ["cait_m48_448", "cait_m36_384"]
    assert sorted(filter(None, order)) == sorted(VARIANTS)
    loads = [sum(costs[name] for name in order[worker::2] if name) for worker in range(2)]
    assert max(loads) <= 1.05 * min(loads)
    # In turn without places left empty they would have 1.3 and 1.
    longest = sorted(costs.values(), reverse=True)
    assert sum(longest[::2]) > 1.2 * sum(longest[1::2])
    assert dealt_evenly(costs, 1) == sorted(costs, key=lambda name: -costs[name])
    assert dealt_evenly({"one": 1.0}, 3) == ["one", None, None]
    assert dealt_evenly({}, 2) == []


@pytest.mark.slow
def test_a_divided_sample_is_compared_as_a_whole(
    publish_tiny: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_GIGAFLOPS", 3.0)
    result = publish_tiny()
    assert result.status == 0, result.stderr
    finished = [line.split(": ")[0] for line in result.stderr.splitlines() if line[0] == "["]
    assert len([step for step in finished if step.endswith("[2:4]")]) == 4
    models = json.loads((result.tree / "report.json").read_text())["models"]
    assert [(m["images"], m["attention_images"]) for m in models] == [(8, 2)] * 2
