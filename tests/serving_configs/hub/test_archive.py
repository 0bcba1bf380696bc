"""Archives of the hub: the same bytes, only what belongs there, safe to unpack."""

import gzip
import io
import os
import pathlib
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable

import pytest

from serving_configs import load_manifest
from serving_configs.__main__ import main
from serving_configs.errors import ConfigError
from serving_configs.hub.archive import write_archive
from serving_configs.hub.members import archived_files
from serving_configs.hub.reader import check_archive, extract_archive
from signatures import Head
from tests.support.trees import TINY

Models = dict[Head, pathlib.Path]


@pytest.fixture
def version(tiny_models: Models, tmp_path: pathlib.Path) -> pathlib.Path:
    directory = pathlib.Path(shutil.copytree(tiny_models["features"], tmp_path / "1"))
    (directory / "batching_params.pbtxt").write_text("max_batch_size { value: 1 }")
    (directory / "assets.extra").mkdir(exist_ok=True)
    (directory / "assets.extra" / "manifest.json").write_text("{}")
    return directory


def test_holds_the_saved_model_at_its_root_and_nothing_of_a_server(
    version: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    archive = tmp_path / "hub" / "1.tar.gz"
    assert write_archive(version, archive)
    with archive.open("rb") as file:
        found = check_archive(file, str(archive))
    assert [record.path for record in found] == [
        "fingerprint.pb",
        "keras_metadata.pb",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert [path.name for path in archive.parent.iterdir()] == ["1.tar.gz"]


def test_bytes_are_the_same_for_the_same_files(
    version: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    write_archive(version, tmp_path / "a.tar.gz")
    other = pathlib.Path(shutil.copytree(version, tmp_path / "other" / "7"))
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    write_archive(other, tmp_path / "b.tar.gz")
    content = (tmp_path / "a.tar.gz").read_bytes()
    assert content == (tmp_path / "b.tar.gz").read_bytes()
    assert content[4:8] == bytes(4)  # The time in gzip's header.
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
            assert member.mode == (0o755 if member.isdir() else 0o644)
            assert (member.uname, member.gname) == ("", "")


def test_what_was_published_is_left_alone(version: pathlib.Path, tmp_path: pathlib.Path) -> None:
    archive = tmp_path / "1.tar.gz"
    write_archive(version, archive)
    before = archive.read_bytes()
    (version / "saved_model.pb").write_bytes(b"other")
    assert not write_archive(version, archive)
    assert archive.read_bytes() == before


def test_unpacked_files_are_those_of_the_version(
    version: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    write_archive(version, tmp_path / "1.tar.gz")
    extract_archive(tmp_path / "1.tar.gz", tmp_path / "out")
    names = {p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (version / name).read_bytes()
    with pytest.raises(FileExistsError):
        extract_archive(tmp_path / "1.tar.gz", tmp_path / "out")


def test_a_directory_that_is_no_saved_model_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "1").mkdir()
    with pytest.raises(ConfigError, match=r"no saved_model\.pb"):
        write_archive(tmp_path / "1", tmp_path / "1.tar.gz")
    assert not (tmp_path / "1.tar.gz").exists()


def test_a_link_is_refused(version: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (version / "assets").mkdir(exist_ok=True)
    (version / "assets" / "labels").symlink_to("/etc/hostname")
    with pytest.raises(ConfigError, match="labels: a link"):
        write_archive(version, tmp_path / "1.tar.gz")
    assert not (tmp_path / "1.tar.gz").exists()


def made(path: pathlib.Path, *members: tarfile.TarInfo) -> pathlib.Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 3 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside"),
        member("variables/../../outside"),
        member("assets/../../outside"),
        member("assets/..\\outside"),
        member("/tmp/outside"),
        member("./saved_model.pb"),
        member("saved_model.pb"),
        member("batching_params.pbtxt"),
        member("assets/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("assets/link", tarfile.LNKTYPE, "saved_model.pb"),
        member("assets/folder", tarfile.DIRTYPE),
        member("..", tarfile.DIRTYPE),
        member("assets/device", tarfile.CHRTYPE),
        member("assets/a\nerror: b"),
        member("assets/\x1b[31m"),
        member("assets/\x9b31m"),
        member("assets/\u202egnp.exe"),
        member("assets/\x1b[2J", tarfile.SYMTYPE, "x"),
    ],
    ids=lambda info: ascii(f"{info.name}-{info.type.decode()}"),
)
def test_members_that_have_no_business_there_are_refused(
    tmp_path: pathlib.Path, bad: tarfile.TarInfo
) -> None:
    archive = made(tmp_path / "a.tar.gz", member("saved_model.pb"), bad)
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match=r"a\.tar\.gz") as refused:
        extract_archive(archive, tmp_path / "in" / "out")
    assert str(refused.value).isprintable()
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz", "in"}
    assert not list((tmp_path / "in").iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4] + bytes(4),
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:2000] + bytes([data[2000] ^ 0xFF]) + data[2001:],
        lambda data: gzip.compress(b"no archive"),
        lambda data: b"",
    ],
)
def test_damaged_archives_are_refused(
    version: pathlib.Path, tmp_path: pathlib.Path, damage: Callable[[bytes], bytes]
) -> None:
    archive = tmp_path / "1.tar.gz"
    write_archive(version, archive)
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(ConfigError, match=r"1\.tar\.gz"):
        extract_archive(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def bomb(path: pathlib.Path, *parts: bytes) -> pathlib.Path:
    """An archive that begins with a SavedModel's graph, and goes on with these bytes."""
    graph = member("saved_model.pb")
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(graph.tobuf() + bytes(512))
        for part in parts:
            file.write(part)
    return path


def huge_header(kind: bytes, name: str, size: int) -> bytes:
    info = member(name, kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """What an archive without a manifest may expand to, in this test."""
    largest = 1 << 20
    monkeypatch.setattr("serving_configs.hub.reader.LARGEST", largest)
    return largest


BOMBS = {
    # A member that says so, with and without the bytes.
    "member": (huge_header(tarfile.REGTYPE, "assets/a", 50 << 20), bytes(50 << 20)),
    "claim": (huge_header(tarfile.REGTYPE, "assets/a", 50 << 40),),
    "skipped": (huge_header(tarfile.CHRTYPE, "assets/a", 50 << 20), bytes(50 << 20)),
    # A name that is read into memory before anybody sees a member.
    "pax header": (huge_header(tarfile.XHDTYPE, "x", 50 << 20), bytes(50 << 20)),
    "long name": (huge_header(tarfile.GNUTYPE_LONGNAME, "x", 50 << 20), bytes(50 << 20)),
    # Behind the archive's end, where only the checksum is read.
    "behind the end": (bytes(50 << 20),),
    "many members": tuple(
        member(f"assets/{number}").tobuf() + bytes(512) for number in range(9000)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOMBS)
def test_archive_that_expands_to_more_than_it_may_is_refused(
    tmp_path: pathlib.Path, small_limit: int, kind: str
) -> None:
    archive = bomb(tmp_path / "a.tar.gz", *BOMBS[kind])
    assert archive.stat().st_size < small_limit
    tracemalloc.start()
    with pytest.raises(ConfigError, match=r"a\.tar\.gz: (expands|a header|damaged|'assets/a' is)"):
        extract_archive(archive, tmp_path / "out")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Not even for a moment.
    assert most < 16 << 20
    assert not (tmp_path / "out").exists()


def test_archive_of_a_tree_expands_to_what_its_manifest_says(
    tiny_tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    tree = pathlib.Path(shutil.copytree(tiny_tree, tmp_path / "tree"))
    archive = tree / "hub" / "cait" / TINY / "1.tar.gz"
    extract_archive(archive, tmp_path / "as it was")
    assert (tmp_path / "as it was" / "saved_model.pb").exists()
    # The smallest of the files that are missing is named, and of another size.
    made(archive, member("saved_model.pb"))
    with pytest.raises(ConfigError, match=r"1\.tar\.gz: fingerprint\.pb is missing"):
        extract_archive(archive, tmp_path / "out")
    bomb(archive, *BOMBS["member"])
    size = sum(
        record.size for record in archived_files(load_manifest(tree / "serving" / TINY / "1").files)
    )
    with pytest.raises(ConfigError, match=rf"expands to more than the {size} bytes"):
        extract_archive(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_archive_that_is_a_pipe_is_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "a.tar.gz")
    assert main(["extract", str(tmp_path / "a.tar.gz"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'a.tar.gz'}: not a file\n"
