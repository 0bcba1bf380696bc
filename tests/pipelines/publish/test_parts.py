"""The parts of a validation hold every image once, and are as small as a variant is slow."""

import json
from collections.abc import Callable

import pytest

from export.variants import VARIANTS
from pipelines.elements import Shard
from pipelines.publish import parts
from pipelines.publish.parts import parts_for
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
