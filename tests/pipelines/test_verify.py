"""What was published, checked again: what is not as its manifest says is named."""

import io
import pathlib
import tarfile
from collections.abc import Callable

import pytest

from pipelines.verify import main as verify
from serving_configs import MANIFEST
from serving_configs.hub.archive import write_archive
from tests.support.publishers import MODELS, Tree, local_tree, publish, write_files

MODEL = MODELS[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return write_files(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> Tree:
    return local_tree(tmp_path / "tree")


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
    assert verify([]) == 2
    assert capsys.readouterr().err == ("error: the following arguments are required: publish_to\n")
    assert verify([str(tmp_path), "--s3_endpoint_ur", "x"]) == 2
    assert "unknown flag --s3_endpoint_ur; did you mean" in capsys.readouterr().err
