"""What an evaluation keeps for the next one: of runs that were killed, of shards, of models."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.support.labelled_images import counts, counts_of, entry_of, pairs_of
from tests.support.labelled_records import write_shard
from tests.support.paths import REPOSITORY
from tests.support.trees import TINY

pytestmark = pytest.mark.slow

SHARDS = 5


def steps_of(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("[")]


def test_run_that_is_killed_goes_on_with_the_shards_that_it_lacks(
    evaluate, models, labelled, tmp_path
):
    output, data = tmp_path / "out", tmp_path / "data"
    output.mkdir()
    data.mkdir()
    # All images in each: it takes long enough to be killed in the midst of them.
    for shard in range(SHARDS):
        write_shard(data / f"images-{shard}", pairs_of(labelled))

    def kept() -> dict[pathlib.Path, int]:
        return {path: path.stat().st_ino for path in output.glob("shards/*/*.json")}

    first = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipelines.evaluate", "--models", models),
            *("--data", f"{data}/*", "--output", str(output)),
        ],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not kept():
            assert first.poll() is None
            time.sleep(0.02)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    done = kept()
    status, _, stderr = evaluate(models, f"{data}/*")
    assert status == 0, stderr
    left = SHARDS - len(done)
    assert [line.split()[0] for line in steps_of(stderr)] == [
        f"[{n + 1}/{left}]" for n in range(left)
    ]
    assert done.items() <= kept().items()
    assert counts_of(entry_of(output)) == tuple(SHARDS * count for count in counts(labelled))


def test_shard_that_changed_or_whose_figures_are_damaged_is_done_again(
    evaluate, zoo, animals, tmp_path
):
    data, pairs = tmp_path / "data", pairs_of(animals)
    data.mkdir()
    for name in ("changed", "damaged", "same"):
        write_shard(data / name, pairs[:20])
    assert evaluate(zoo, f"{data}/*")[0] == 0
    assert "evaluate " not in evaluate(zoo, f"{data}/*")[2]
    kept = {
        json.loads(path.read_text())["shard_name"]: path
        for path in (tmp_path / "out").glob("shards/*/*.json")
    }
    kept["damaged"].write_text(kept["damaged"].read_text()[:-40])
    write_shard(data / "changed", pairs[:30])
    steps = steps_of(evaluate(zoo, f"{data}/*")[2])
    assert [step.split(":")[0].split(" ", 1)[0] for step in steps] == ["[1/2]", "[2/2]"]
    assert sorted(step.split(" on ")[1].split(":")[0] for step in steps) == ["changed", "damaged"]
    assert json.loads(kept["damaged"].read_text())["score"]["images"] == 20
    assert entry_of(tmp_path / "out")["images"] == 20 + 20 + 30


def test_model_that_fails_is_named_and_the_other_is_evaluated(evaluate, zoo, animals, tmp_path):
    root = str(shutil.copytree(zoo, tmp_path / "serving"))
    base = pathlib.Path(root, "my-zoo")
    shutil.copytree(base / "1", base / "2")
    (base / "2" / "variables" / "variables.index").write_bytes(b"")
    data = str(tmp_path / "records")
    write_shard(tmp_path / "records", pairs_of(animals[:10]))
    status, _, stderr = evaluate(root, data, "--versions", "all")
    assert status == 1
    assert "failed: my-zoo 2: records: " in stderr
    one, two = json.loads((tmp_path / "out" / "evaluation.json").read_text())["models"]
    assert (one["images"], one["failures"]) == (10, [])
    assert (two["images"], two["top1"]["percent"]) == (0, None)
    # What failed is tried again; by a filter only what is asked for is.
    assert "[1/1] evaluate" in evaluate(root, data, "--versions", "all")[2]
    assert evaluate(root, data, "--versions", "1", "--variants", TINY)[0] == 0
    config = (
        'model_config_list { config { name: "my-zoo" model_version_policy { specific {} } %s } }'
    )
    pathlib.Path(root, "models.config").write_text(
        config % 'version_labels { key: "stable" value: 1 }'
    )
    assert evaluate(root, data, "--versions", "stable")[0] == 0
    (entry,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["models"]
    assert (entry["model"], entry["version"]) == ("my-zoo", 1)
