"""Publishers that die, and filesystems that cannot be written."""

import pathlib
import shutil
import subprocess
import sys

import pytest

from pipelines.verify import main as verify
from tests.support.paths import REPOSITORY
from tests.support.publishers import MODELS, object_store, publish, write_files

pytestmark = pytest.mark.slow

MODEL = MODELS[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return write_files(tmp_path_factory.mktemp("model") / "m")


def test_claim_of_a_dead_publisher_goes_and_a_live_one_stays(tmp_path, model):
    with object_store() as tree:
        store = tree.open()
        # As left behind by a publisher that was killed before it wrote the manifest.
        store.write(f".staging/claims/{MODEL}/1/dead", b"claimed\n")
        store.write(f"serving/{MODEL}/1/saved_model.pb", b"x")
        store.write(f"serving/{MODEL}/1/variables/variables.index", b"x")
        store.clean(3600.0)
        assert set(store.sizes(".staging/claims")) == {f"{MODEL}/1/dead"}
        # Its number is not taken while it may be alive.
        assert not store.put_version("staged", ["saved_model.pb"], f"serving/{MODEL}/1", {})
        store.clean(0.0)
        assert store.children(f"serving/{MODEL}") == []
        assert store.sizes(".staging") == {}
        assert publish(tree, model, [MODEL], "a") == [1]
        assert publish(tree, model, [MODEL], "a") == [1]
        assert verify([tree.root, *tree.options]) == 0
        store.remove_version(f"serving/{MODEL}/1", "")
        assert store.sizes("serving") == {}


# In a namespace of its own, with a filesystem that is full or not to be written.
SCRIPT = """
import pathlib, subprocess, sys
from tests.support.publishers import local_tree, publish
root, model, fault = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(root)], check=True)
tree = local_tree(root / "tree")
publish(tree, model, ["cait_one"], "a")
before = sorted((str(p), p.stat().st_size) for p in root.rglob("*"))
if fault == "full":
    (root / "filler").write_bytes(b"x" * 200_000)
else:
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
try:
    publish(tree, model, ["cait_one"], "b")
except OSError as error:
    print(type(error).__name__, error)
(root / "filler").unlink(missing_ok=True) if fault == "full" else None
after = sorted((str(p), p.stat().st_size) for p in root.rglob("*"))
print("unchanged" if after == before else (before, after))
from pipelines.verify import main
sys.exit(main([tree.root]))
"""


def in_namespace(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or in_namespace("mount", "-t", "tmpfs", "tmpfs", "/mnt").returncode != 0,
    reason="filesystems cannot be mounted here",
)
@pytest.mark.parametrize(
    ("fault", "message"),
    [("full", "No space left on device"), ("read-only", "Read-only file system")],
)
def test_filesystem_that_cannot_be_written(tmp_path, model, fault, message):
    done = in_namespace(sys.executable, "-c", SCRIPT, str(tmp_path), str(model), fault)
    assert done.returncode == 0, done.stderr
    error, unchanged, verified = done.stdout.splitlines()
    assert message in error
    assert unchanged == "unchanged"
    assert verified == "1 checked, 0 not as published"
