"""Publishing under faults, scaled down; `benchmarks.publish_faults` has the whole of it."""

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from benchmarks.publish_faults import FaultError, killed, two_at_once
from benchmarks.publishing import MODELS, Poller, Tree, local_tree, object_store, publish
from pipelines.verify import main as verify
from serving_configs import MANIFEST
from tests.conftest import REPOSITORY

MODEL = MODELS[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Files named as a SavedModel's. Nothing here loads them."""
    directory = tmp_path_factory.mktemp("model") / "m"
    for name, size in (
        ("saved_model.pb", 50_000),
        ("fingerprint.pb", 50),
        ("variables/variables.index", 500),
        ("variables/variables.data-00000-of-00001", 200_000),
        ("assets/labels", 100),
    ):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(range(250)) * (size // 250 + 1))
    return directory


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> Tree:
    return local_tree(tmp_path / "tree")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    with object_store(tmp_path_factory.mktemp("local") / "staging") as tree:
        yield tree


def below(store: Tree, name: str) -> Tree:
    return Tree(f"{store.root}/{name}", f"{store.staging}-{name}", store.options)


def files_of(root: pathlib.Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_killed_publishers_leave_no_half_version(tree, model):
    row = killed(tree, model, publishes=12)
    assert row[1].startswith("12 (")
    assert "0 incomplete" in row[2]


def test_reader_sees_a_version_that_is_written_in_place(tree, model):
    """The check itself: what is copied into the base path is caught while it is not whole."""
    publish(tree, model, [MODEL], "a")
    files = [path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()]
    poller = Poller(tree, files, load=False)
    target = pathlib.Path(tree.root) / "serving" / MODEL / "2"
    target.mkdir()
    shutil.copy(model / "saved_model.pb", target)
    seen = poller.stop()
    assert seen.versions == 2
    assert len(seen.incomplete) == 1
    assert "serving/cait_one/2: " in seen.incomplete[0]


def test_version_that_does_not_verify_fails_the_run(tree, model):
    publish(tree, model, [MODEL], "a")
    (pathlib.Path(tree.root) / "serving" / MODEL / "1" / "saved_model.pb").unlink()
    with pytest.raises(FaultError, match=r"saved_model\.pb is missing"):
        killed(tree, model, publishes=0)


def test_two_publishers_at_once_lose_and_share_nothing(tree, model):
    row = two_at_once(tree, model, rounds=3)
    assert "12 versions verify" in row[3]


def test_killed_publishers_leave_no_half_version_in_an_object_store(store, model):
    row = killed(below(store, "killed"), model, publishes=2)
    assert "0 incomplete" in row[2]


def test_two_publishers_at_once_in_an_object_store(store, model):
    row = two_at_once(below(store, "two"), model, rounds=1, names=MODELS[:1])
    assert "2 versions verify" in row[3]


def test_claim_of_a_dead_publisher_goes_and_a_live_one_stays(store, model):
    tree = below(store, "claims")
    storage = tree.open()
    # As left behind by a publisher that was killed before it wrote the manifest.
    storage.write(f".staging/claims/{MODEL}/1/dead", b"claimed\n")
    storage.write(f"serving/{MODEL}/1/saved_model.pb", b"x")
    storage.write(f"serving/{MODEL}/1/variables/variables.index", b"x")
    storage.clean(3600.0)
    assert set(storage.sizes(".staging/claims")) == {f"{MODEL}/1/dead"}
    # Its number is not taken while it may be alive.
    assert not storage.put_version(model, f"serving/{MODEL}/1", b"manifest")
    storage.clean(0.0)
    assert storage.children(f"serving/{MODEL}") == []
    assert storage.sizes(".staging") == {}
    assert publish(tree, model, [MODEL], "a") == [1]
    assert publish(tree, model, [MODEL], "a") == [1]
    assert verify([tree.root, *tree.options]) == 0
    storage.remove_version(f"serving/{MODEL}/1", pathlib.Path())
    assert storage.sizes("serving") == {}


@pytest.fixture
def published(tree: Tree, model: pathlib.Path) -> tuple[Tree, pathlib.Path]:
    """A tree with one version, and that version's directory."""
    publish(tree, model, [MODEL], "a")
    return tree, pathlib.Path(tree.root) / "serving" / MODEL / "1"


Check = Callable[[], tuple[int, str]]


@pytest.fixture
def check(published: tuple[Tree, pathlib.Path], capsys: pytest.CaptureFixture[str]) -> Check:
    def check() -> tuple[int, str]:
        capsys.readouterr()
        return verify([published[0].root]), capsys.readouterr().err

    return check


def test_what_was_published_verifies(check):
    assert check() == (0, "")


def test_flipped_byte_in_a_manifest_is_named(published, check):
    path = published[1] / MANIFEST
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    status, line = check()
    assert status == 1
    assert line.startswith(f"{published[1]}: {MANIFEST}: ")


def test_truncated_variables_are_named(published, check):
    path = published[1] / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1])
    status, line = check()
    assert status == 1
    assert line == (
        f"{published[1]}: variables/variables.data-00000-of-00001 has 200249 bytes; "
        "expected 200250\n"
    )


def test_numbered_directory_without_a_manifest_is_named(published, check):
    (published[1].parent / "2").mkdir()
    status, line = check()
    assert status == 1
    assert line.startswith(f"{published[1].parent / '2'}: there is no manifest")


def test_archive_is_held_to_its_manifest(published, check):
    from serving_configs.hub.archive import write_archive

    archive = pathlib.Path(published[0].root) / "hub" / "cait" / MODEL / "1.tar.gz"
    archive.parent.mkdir(parents=True)
    write_archive(published[1], archive)
    assert check() == (0, "")
    # A version that was removed has an archive still.
    archive.rename(archive.with_name("2.tar.gz"))
    assert check() == (0, "")
    (published[1] / "assets" / "labels").write_bytes(b"changed")
    write_archive(published[1], archive)
    assert "1.tar.gz: assets/labels has 7 bytes; expected " in check()[1]
    archive.write_bytes(archive.read_bytes()[:-100])
    assert "1.tar.gz: damaged" in check()[1]


def test_archive_with_a_member_outside_is_named(published, check):
    import io
    import tarfile

    archive = pathlib.Path(published[0].root) / "hub" / "cait" / MODEL / "1.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("../outside")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    status, line = check()
    assert status == 1
    assert "../outside" in line


def test_nothing_to_verify(tmp_path, capsys):
    assert verify([str(tmp_path)]) == 2
    assert "nothing is published there" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        verify([])


# In a namespace of its own, with a filesystem that is full or not to be written.
SCRIPT = """
import pathlib, subprocess, sys
from benchmarks.publishing import local_tree, publish
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
