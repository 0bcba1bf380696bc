"""Weights of the hub in a directory, from a server that answers as the hub does.

In a process of its own, because the hub's library reads its environment when it is imported.
"""

import json
import os
import subprocess
import sys

import pytest
import safetensors.numpy

from export.checkpoints.files import FileSource
from export.checkpoints.sources import open_checkpoint
from export.variants import CaiTConfig, Variant
from tests.support.hub_server import COMMIT, Hub, serving
from tests.support.paths import REPOSITORY
from tests.support.readme import command_of

VARIANT = Variant("tiny", CaiTConfig(32, 16, 16, 2, 2, num_classes=10), 0, 0.0, 0.0, 0.0, "")

# One process for all calls: each would load the hub's library anew.
FETCH = """
import contextlib, io, json, pathlib, sys
from export.variants import VARIANTS, CaiTConfig, Variant
from pipelines.fetch_weights import main

config = CaiTConfig(32, 16, 16, 2, 2, num_classes=10)
VARIANTS["tiny"] = Variant("tiny", config, 0, 0.0, 0.0, 0.0, "")
results = []
for damage, *arguments in json.loads(sys.argv[1]):
    if damage:
        pathlib.Path(damage).write_bytes(b"half")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    results.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""


@pytest.mark.slow
def test_weights_are_put_into_a_directory_that_publish_reads(tiny_tensors, tmp_path):
    weights = tmp_path / "new" / "weights"
    target = weights / "tiny.safetensors"
    (tmp_path / "file").write_bytes(b"")
    # Those of the page, with a smaller variant and another directory.
    flags = command_of("pipelines.fetch_weights")
    assert flags[::2] == ["--variants", "--to"]
    flags[1::2] = "tiny", str(weights)
    calls = [
        ("", *flags),
        ("", *flags),
        (str(target), *flags),
        ("", "--variants", "cait_xxs24_224", "--to", str(weights)),
        ("", *flags[:3], str(tmp_path / "file" / "weights")),
        ("", *flags, "--revision", "other"),
        ("", "--variants", "cait_xxs", "--to", str(weights)),
    ]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    with serving(Hub("timm/tiny.fb_dist_in1k", safetensors.numpy.save(tiny_tensors))) as hub:
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-c", FETCH, json.dumps(calls)],
            cwd=REPOSITORY,
            env={**clean, **environment, "NO_PROXY": "*"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert [status for status, *_ in results] == [0, 0, 0, 2, 2, 2, 2]
    source = f"hf://timm/tiny.fb_dist_in1k@{COMMIT}/model.safetensors"
    first, again, repaired = (out for _, out, _ in results[:3])
    assert first.startswith(f"{target}: 0 MB, {source}, SHA-256 {hub.digest}")
    assert again == f"{target}: there already, {source}\n"
    assert repaired == first
    for (_, _, error), expected in zip(
        results[3:],
        (
            "timm/cait_xxs24_224.fb_dist_in1k at revision 'main': no such repository",
            f"--to {tmp_path}/file/weights: tiny.safetensors cannot be written (Not a directory)",
            "at revision 'other': no such revision",
            "'cait_xxs'",
        ),
        strict=True,
    ):
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert expected in error
    # What `--checkpoints DIRECTORY` takes, and nothing beside it.
    assert [path.name for path in weights.iterdir()] == ["tiny.safetensors"]
    assert target.read_bytes() == hub.content
    assert open_checkpoint(FileSource(str(weights)), VARIANT, tmp_path).sha256 == hub.digest
