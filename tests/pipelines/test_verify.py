"""What was published, checked again: what is not as its manifest says is named."""

import contextlib
import io
import os
import pathlib
import shutil
import socket
import tarfile
from collections.abc import Callable

import pytest

from pipelines.verify import main as verify
from serving_configs import MANIFEST
from serving_configs.hub.archive import write_archive
from serving_configs.write import Settings, write_all
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
def check_tree(capsys: pytest.CaptureFixture[str]) -> Callable[[Tree], tuple[int, str]]:
    def check_tree(tree: Tree) -> tuple[int, str]:
        capsys.readouterr()
        return verify([tree.root]), capsys.readouterr().err

    return check_tree


@pytest.fixture
def check(
    published: tuple[Tree, pathlib.Path], check_tree: Callable[[Tree], tuple[int, str]]
) -> Check:
    return lambda: check_tree(published[0])


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


def link_to_the_same(path: pathlib.Path) -> None:
    """Puts a link in the place of a file or a directory, to its content elsewhere."""
    moved = path.rename(path.parents[3] / "elsewhere")
    path.symlink_to(moved)


def pipe(path: pathlib.Path) -> None:
    if path.exists():
        path.unlink()
    os.mkfifo(path)


def socket_at(path: pathlib.Path) -> None:
    path.unlink()
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


Damage = Callable[[pathlib.Path], object]

# What is done to a version -> how the line about it begins, after the version's path.
DAMAGES: dict[str, tuple[Damage, str]] = {
    "graph is a link": (
        lambda version: link_to_the_same(version / "saved_model.pb"),
        ": saved_model.pb is a link; expected a file or a directory",
    ),
    "variables are a link": (
        lambda version: link_to_the_same(version / "variables"),
        ": variables is a link; expected a file or a directory",
    ),
    "assets of the manifest are a link": (
        lambda version: link_to_the_same(version / "assets.extra"),
        ": assets.extra is a link; expected a file or a directory",
    ),
    "dangling link": (
        lambda version: (version / "extra").symlink_to("nowhere"),
        ": extra is a link; expected a file or a directory",
    ),
    "version is a link": (
        lambda version: version.rename(version.with_name("x")).with_name("1").symlink_to("x"),
        ": is a link; expected a file or a directory",
    ),
    "graph is a pipe": (
        lambda version: pipe(version / "saved_model.pb"),
        ": saved_model.pb is a named pipe; expected a file or a directory",
    ),
    "manifest is a pipe": (
        lambda version: pipe(version / MANIFEST),
        ": cannot be read ([Errno 22] not a file: ",
    ),
    "further pipe": (
        lambda version: pipe(version / "variables" / "pipe"),
        ": variables/pipe is a named pipe; expected a file or a directory",
    ),
    "socket": (
        lambda version: socket_at(version / "fingerprint.pb"),
        ": fingerprint.pb is a socket; expected a file or a directory",
    ),
    "further file": (
        lambda version: (version / "variables" / "x").write_bytes(b""),
        ": variables/x is not in the manifest",
    ),
    "empty directory": (
        lambda version: (version / "assets" / "more").mkdir(),
        ": assets/more is an empty directory; expected none",
    ),
    "name of two lines": (
        lambda version: (version / "a\nb").write_bytes(b""),
        ": a\\nb is not in the manifest",
    ),
    "file for its owner": (
        lambda version: (version / "saved_model.pb").chmod(0o600),
        ": saved_model.pb has permissions 0600; expected 0644 or 0444",
    ),
    "file for everybody": (
        lambda version: (version / "saved_model.pb").chmod(0o666),
        ": saved_model.pb has permissions 0666; expected 0644 or 0444",
    ),
    "program": (
        lambda version: (version / "saved_model.pb").chmod(0o755),
        ": saved_model.pb has permissions 0755; expected 0644 or 0444",
    ),
    "directory for everybody": (
        lambda version: version.chmod(0o777),
        ": has permissions 0777; expected 0755 or 0555",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_version_that_holds_anything_but_its_files_is_named(published, check, damage):
    change, expected = DAMAGES[damage]
    change(published[1])
    status, lines = check()
    assert status == 1
    first = lines.splitlines()[0]
    assert first.startswith(f"{published[1]}{expected}"), lines
    # Where the version was moved to is no version.
    assert lines.count("\n") == (2 if damage == "version is a link" else 1)


def test_version_that_was_made_read_only_verifies(published, check):
    for path in (published[1], *published[1].rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert check() == (0, "")


def test_permissions_are_the_same_whatever_the_umask(tree, model, check_tree):
    before = os.umask(0o077)
    try:
        publish(tree, model, [MODEL], "a")
    finally:
        os.umask(before)
    assert check_tree(tree) == (0, "")


@pytest.mark.parametrize("name", ["serving", f"serving/{MODEL}", "hub"])
def test_directory_that_is_a_link_is_named(published, check, name):
    path = pathlib.Path(published[0].root, name)
    path.mkdir(exist_ok=True)
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")
    status, lines = check()
    assert status == 1
    assert f"{path}: is a link; expected a file or a directory\n" in lines


def test_what_is_no_version_in_a_base_path_is_named(published, check):
    leading_zeros, notes = published[1].with_name("001"), published[1].with_name("notes")
    leading_zeros.mkdir()
    notes.write_text("x")
    status, lines = check()
    first, second = lines.splitlines()
    assert status == 1
    assert first.startswith(f"{leading_zeros}: there is no manifest")
    assert second == f"{notes}: is no version; expected numbers only in a base path"


def config_of(root: str) -> pathlib.Path:
    return pathlib.Path(root, "serving", "models.config")


EDITS = {
    "base path": (
        ("{root}/serving/" + MODEL, "/elsewhere/" + MODEL),
        "the base path of cait_one is /elsewhere/cait_one; expected {root}/serving/cait_one",
    ),
    "versions": (
        ("versions: 1", "versions: 7"),
        "cait_one loads version 7, which is not published",
    ),
    "label": (
        ("value: 1", "value: 7"),
        "label canary of cait_one names version 7, which is not published",
    ),
    "text": (("model_config_list {{", "x {{"), "1:1 : Message type"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_config_that_leads_elsewhere_is_named(published, check, edit):
    root = published[0].root
    write_all(root, Settings())
    assert check() == (0, "")
    (old, new), expected = EDITS[edit]
    text = config_of(root).read_text()
    changed = text.replace(old.format(root=root), new.format(root=root))
    assert changed != text
    config_of(root).write_text(changed)
    status, lines = check()
    assert status == 1
    assert lines.startswith(f"{config_of(root)}: {expected.format(root=root)}")


def test_base_paths_of_servers_are_those_of_the_last_write(published, check):
    root = published[0].root
    write_all(root, Settings(base_path="/models"))
    assert check() == (0, "")
    text = config_of(root).read_text()
    config_of(root).write_text(text.replace("/models/", "/model/"))
    assert f"the base path of {MODEL} is /model/{MODEL}; expected " in check()[1]
    # As an earlier version wrote the settings.
    (pathlib.Path(root) / "deployment" / "settings.json").write_text('{"batching": false}\n')
    assert check() == (0, "")


def test_archive_that_is_no_file_is_named(published, check):
    write_all(published[0].root, Settings())
    archive = pathlib.Path(published[0].root) / "hub" / "cait" / MODEL / "1.tar.gz"
    pipe(archive)
    assert check() == (1, f"{archive}: is a named pipe; expected a file or a directory\n")


@pytest.mark.parametrize(
    "name", [f"{MODEL}/1.tar.gz", "cait/no_model/1.tar.gz", f"cait/{MODEL}/x.tar.gz"]
)
def test_archive_of_nothing_in_the_tree_is_named(published, check, name):
    root = pathlib.Path(published[0].root)
    write_all(str(root), Settings())
    archive = root / "hub" / name
    archive.parent.mkdir(exist_ok=True)
    shutil.copyfile(root / "hub" / "cait" / MODEL / "1.tar.gz", archive)
    status, lines = check()
    assert (status, lines.count("\n")) == (1, 1)
    assert lines.startswith(f"{archive}: is of no model of the tree; expected hub/")


def test_nothing_to_verify(tmp_path, capsys):
    assert verify([str(tmp_path)]) == 2
    assert "nothing is published there" in capsys.readouterr().err
    assert verify([]) == 2
    assert capsys.readouterr().err == ("error: the following arguments are required: publish_to\n")
    assert verify([str(tmp_path), "--s3_endpoint_ur", "x"]) == 2
    assert "unknown flag --s3_endpoint_ur; did you mean" in capsys.readouterr().err
