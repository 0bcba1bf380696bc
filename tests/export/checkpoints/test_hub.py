"""Weights from the model hub, over HTTP from a server that answers as the hub does.

Each download runs in a process of its own, because the hub's library reads its environment when it
is imported.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from export.checkpoints.sources import checkpoint_source
from export.errors import UserError
from tests.support.hub_server import COMMIT, Hub, serving
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.slow

Tensors = dict[str, npt.NDArray[np.float32]]


DOWNLOAD = """
import dataclasses, json, pathlib, sys
from export import CheckpointError, checkpoint_source, open_checkpoint
from export.variants import CaiTConfig, Variant

revision = sys.argv[1] or None
config = CaiTConfig(32, 16, 16, 2, 2, num_classes=10)
source = checkpoint_source("hf", revision)
try:
    found = open_checkpoint(source, Variant("tiny", config, 0, 0.0, 0.0, 0.0, ""), pathlib.Path())
except CheckpointError as error:
    sys.exit(f"error: {error}")
print(json.dumps(dataclasses.asdict(found)))
"""


@pytest.fixture
def hub(tiny_tensors: Tensors) -> Iterator[Hub]:
    content = safetensors.numpy.save(tiny_tensors)
    with serving(Hub("timm/tiny.fb_dist_in1k", content)) as hub:
        yield hub


def run(
    hub: Hub, home: pathlib.Path, revision: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    clean |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "NO_PROXY": "*"} | environment
    return subprocess.run(
        [sys.executable, "-c", DOWNLOAD, revision],
        cwd=REPOSITORY,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def found(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    *_, last = done.stderr.splitlines()
    start = "error: --checkpoints hf: timm/tiny.fb_dist_in1k at revision "
    assert last.startswith(start)
    assert "Traceback" not in done.stderr
    return last.removeprefix(start)


def downloads(hub: Hub) -> list[dict[str, str]]:
    """The headers of every download of the file itself."""
    return [
        headers
        for method, path, headers in hub.requests
        if method == "GET" and path.startswith("/cdn/")
    ]


def test_a_download_through_a_redirect_is_described_and_kept(
    hub: Hub, tmp_path: pathlib.Path
) -> None:
    # The bar is for terminals; this has it drawn into a pipe, too.
    done = run(hub, tmp_path, HF_TOKEN="hf_of_this_test", TQDM_POSITION="-1")
    checkpoint = found(done)
    path = pathlib.Path(str(checkpoint["path"]))
    assert path.read_bytes() == hub.content
    assert path.is_relative_to(tmp_path / "hub")
    assert checkpoint == {
        "path": str(path),
        "source": f"hf://timm/tiny.fb_dist_in1k@{COMMIT}/model.safetensors",
        "sha256": hashlib.sha256(hub.content).hexdigest(),
        "trained": True,
        "num_classes": 10,
        "image_size": 32,
        "kind": "model",
        "labels": [],
        "notes": [],
    }
    assert "100%" in done.stderr
    method, asked, headers = hub.requests[0]
    assert (method, asked) == (
        "HEAD",
        "/timm/tiny.fb_dist_in1k/resolve/main/model.safetensors",
    )
    assert {k.lower(): v for k, v in headers.items()}["authorization"] == "Bearer hf_of_this_test"

    # The token is the hub's, and no business of where it sends one to.
    (sent,) = downloads(hub)
    assert "authorization" not in {name.lower() for name in sent}

    # Again: it is asked whether there is a newer one, and nothing is sent.
    assert len(downloads(hub)) == 1
    assert found(run(hub, tmp_path)) == checkpoint
    assert len(downloads(hub)) == 1
    # Offline, and by the commit's name, which can't change: nothing is asked at all.
    asked_before = len(hub.requests)
    assert found(run(hub, tmp_path, HF_HUB_OFFLINE="1")) == checkpoint
    assert found(run(hub, tmp_path, revision=COMMIT)) == checkpoint
    assert len(hub.requests) == asked_before


def test_a_dropped_connection_is_taken_up_where_it_broke(hub: Hub, tmp_path: pathlib.Path) -> None:
    hub.drop_after = len(hub.content) // 3
    path = pathlib.Path(str(found(run(hub, tmp_path))["path"]))
    assert path.read_bytes() == hub.content
    ranges = [{k.lower(): v for k, v in d.items()}.get("range") for d in downloads(hub)]
    assert len(ranges) == 2
    assert ranges[0] is None
    # What had not been written yet when the end came is sent again: a small file, from its start.
    assert ranges[1] is None or ranges[1].startswith("bytes=")


def test_a_busy_hub_is_asked_again(hub: Hub, tmp_path: pathlib.Path) -> None:
    hub.busy = 2
    assert found(run(hub, tmp_path))["sha256"] == hub.digest


def test_a_hub_that_stays_busy_is_an_error(hub: Hub, tmp_path: pathlib.Path) -> None:
    hub.busy = 1000
    message = refusal(run(hub, tmp_path))
    assert message.startswith("'main': not in the local cache, and the hub cannot be reached (")
    assert "429" in message
    assert len(hub.requests) < 20


def test_what_is_not_there_is_named(hub: Hub, tmp_path: pathlib.Path) -> None:
    assert refusal(run(hub, tmp_path, revision="v9")) == (
        "'v9': no such revision; name a branch, a tag or a commit with --revision"
    )
    hub.repository = "timm/other"
    assert refusal(run(hub, tmp_path)) == (
        "'main': no such repository, or no access to it; check HF_ENDPOINT and HF_TOKEN"
    )


def test_offline_with_an_empty_cache_is_an_error(hub: Hub, tmp_path: pathlib.Path) -> None:
    message = refusal(run(hub, tmp_path, HF_HUB_OFFLINE="1"))
    assert message.startswith("'main': not in the local cache, and the hub cannot be reached (")
    assert hub.requests == []


def test_content_that_is_not_the_hub_s_is_refused(hub: Hub, tmp_path: pathlib.Path) -> None:
    # Of the right size: nothing but the digest can tell.
    wrong = bytearray(hub.content)
    wrong[-1] ^= 1
    hub.content_sent = bytes(wrong)
    blob = tmp_path / "hub" / "models--timm--tiny.fb_dist_in1k" / "blobs" / hub.digest
    digest = hashlib.sha256(wrong).hexdigest()
    for _ in range(2):
        assert refusal(run(hub, tmp_path)) == (
            f"'main': the content of {blob} has SHA-256 {digest}; expected its name; "
            "remove it and run again"
        )
    blob.unlink()
    hub.content_sent = None
    assert found(run(hub, tmp_path))["sha256"] == hub.digest


def test_content_of_another_size_is_refused(hub: Hub, tmp_path: pathlib.Path) -> None:
    hub.content_sent = hub.content[:-10]
    message = refusal(run(hub, tmp_path))
    assert message.startswith("'main': model.safetensors cannot be downloaded (Consistency check")
    blobs = tmp_path / "hub" / "models--timm--tiny.fb_dist_in1k" / "blobs"
    assert list(blobs.iterdir()) == []


def test_a_revision_of_other_weights_is_refused() -> None:
    for value in ("random", "somewhere"):
        with pytest.raises(UserError) as caught:
            checkpoint_source(value, "v1")
        assert str(caught.value) == (
            f"--revision v1: --checkpoints {value} has no revisions; expected --checkpoints hf, "
            "or no --revision"
        )


def test_the_job_ends_in_one_line_where_the_hub_has_no_such_repository(
    hub: Hub, tmp_path: pathlib.Path, shards: str
) -> None:
    tree = tmp_path / "tree"
    command = [
        *(sys.executable, "-m", "pipelines.publish", "--variants", "cait_s24_224"),
        *("--checkpoints", "hf", "--revision", "v9"),
        *("--sample_shard", shards, "--publish_to", str(tree)),
    ]
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "error: --checkpoints hf: timm/cait_s24_224.fb_dist_in1k at revision 'v9': no such "
        "repository, or no access to it; check HF_ENDPOINT and HF_TOKEN"
    )
    assert not tree.exists()
