"""The command `sign`, `extract` and `promote` of signed trees, and servers that need signatures."""

import pathlib
import shutil
import tarfile
from typing import Any

import pytest

from pipelines.verify import main as verify
from serving.errors import ServingError
from serving_configs import base_path
from serving_configs.__main__ import main
from serving_configs.tree.paths import SIGNATURE
from serving_configs.trust.keys import TRUSTED_KEYS, read_public_keys
from tests.support.keys import KeyFiles, write_keys
from tests.support.model_server import running
from tests.support.rollout_commands import refused, run, state
from tests.support.trees import MODELS, TINY, add_version, settle


def sign(tree: pathlib.Path, keys: KeyFiles, *flags: str) -> int:
    return main(["sign", str(tree), "--sign_with", str(keys.private), *flags])


def bytes_below(tree: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(tree).as_posix(): path.read_bytes()
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def keys(tmp_path: pathlib.Path) -> KeyFiles:
    return write_keys(tmp_path)


def test_a_tree_is_signed_and_its_archives_carry_it(
    tree: pathlib.Path, keys: KeyFiles, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    public = ("--public_key", str(keys.public))
    assert verify([str(tree), *public]) == 1
    errors = capsys.readouterr().err
    assert f"{TINY}/1: not signed: there is no {SIGNATURE}" in errors
    before = bytes_below(tree)
    assert sign(tree, keys) == 0
    directories = [base_path(str(tree), model) / "1" for model in MODELS]
    assert capsys.readouterr().out.split() == [str(directory) for directory in directories]
    # Nothing that is served has changed.
    changed = {name for name, content in bytes_below(tree).items() if before.get(name) != content}
    assert changed == {
        TRUSTED_KEYS,
        *(f"serving/{model}/1/{SIGNATURE}" for model in MODELS),
        *(f"hub/cait/{model}/1.tar.gz" for model in MODELS),
        *(changed & {"serving/.models.config.lock"}),
    }
    assert verify([str(tree), *public]) == 0
    assert verify([str(tree)]) == 0
    # What was killed before it came to the archives is completed.
    (tree / "hub" / "cait" / TINY / "1.tar.gz").write_bytes(before[f"hub/cait/{TINY}/1.tar.gz"])
    assert sign(tree, keys) == 0
    # Again, there is nothing to do.
    signed = bytes_below(tree)
    capsys.readouterr()
    assert sign(tree, keys) == 0
    assert (capsys.readouterr().out, bytes_below(tree)) == ("", signed)

    archive = tree / "hub" / "cait" / TINY / "1.tar.gz"
    assert main(["extract", str(archive), str(tmp_path / "out"), *public]) == 0
    assert (tmp_path / "out" / SIGNATURE).read_bytes() == signed[f"serving/{TINY}/1/{SIGNATURE}"]
    # As tensorflow_hub unpacks it: no directory is missing before its files.
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert "assets.extra" in names
    assert names.index("assets.extra") < names.index(str(SIGNATURE))


def test_an_archive_that_was_changed_is_not_unpacked(
    tree: pathlib.Path, keys: KeyFiles, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    archive = tree / "hub" / "cait" / TINY / "1.tar.gz"
    other = write_keys(tmp_path, "other")

    def extract(public: pathlib.Path) -> str:
        arguments = ["extract", str(archive), str(tmp_path / "out"), "--public_key", str(public)]
        assert main(arguments) == 2
        assert not (tmp_path / "out").exists()
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "1.tar.gz: not signed: there is no assets.extra/manifest.json" in extract(keys.public)
    assert sign(tree, keys) == 0
    assert "signed by another key" in extract(other.public)
    content = tmp_path / "content"
    assert main(["extract", str(archive), str(content)]) == 0
    (content / "fingerprint.pb").write_bytes(b"changed")
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(content.rglob("*")):
            tar.add(path, path.relative_to(content).as_posix(), recursive=False)
    assert "fingerprint.pb has 7 bytes; expected " in extract(keys.public)
    # verify finds it too, and in the place of an archive whose version was removed.
    capsys.readouterr()
    assert verify([str(tree), "--public_key", str(keys.public)]) == 1
    assert "1.tar.gz: fingerprint.pb has 7 bytes" in capsys.readouterr().err
    # As it was signed, but under another number.
    archive.unlink()
    assert main(["write", str(tree)]) == 0
    archive = pathlib.Path(shutil.copy(archive, archive.with_name("5.tar.gz")))
    assert "5.tar.gz: the manifest is of version 1; expected 5" in extract(keys.public)
    assert verify([str(tree), "--public_key", str(keys.public)]) == 1
    assert "5.tar.gz: the manifest is of version 1; expected 5" in capsys.readouterr().err


def test_nothing_is_signed_where_something_was_changed(
    tree: pathlib.Path, keys: KeyFiles, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    (base_path(str(tree), MODELS[1]) / "1" / "fingerprint.pb").write_bytes(b"changed")
    capsys.readouterr()
    assert sign(tree, keys) == 2
    error = capsys.readouterr().err
    assert f"version 1 of {MODELS[1]} does not verify: fingerprint.pb has 7 bytes" in error
    assert "nothing was signed" in error
    assert not list(tree.rglob(SIGNATURE.name))
    assert not (tree / TRUSTED_KEYS).exists()
    assert sign(tmp_path / "empty", keys) == 2
    assert "no published version" in capsys.readouterr().err
    assert main(["sign", str(tree), "--sign_with", str(keys.public)]) == 2
    assert "not a private key in PEM" in capsys.readouterr().err


def test_two_keys_are_valid_while_one_takes_the_place_of_the_other(
    tree: pathlib.Path, keys: KeyFiles, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    new = write_keys(tmp_path, "new")
    assert sign(tree, keys) == 0
    add_version(tree, TINY, 2)
    assert sign(tree, new) == 0
    assert [len(read_public_keys([tree / TRUSTED_KEYS]))] == [2]
    both = ("--public_key", str(keys.public), "--public_key", str(new.public))
    assert main(["write", str(tree)]) == 0
    assert verify([str(tree), *both]) == 0
    assert verify([str(tree), *both[:2]]) == 1
    capsys.readouterr()
    # A version that neither key signed may be a stranger's.
    add_version(tree, TINY, 3)
    (base_path(str(tree), TINY) / "3" / SIGNATURE).unlink()
    assert sign(tree, new, "--replace", str(keys.public)) == 2
    assert f"version 3 of {TINY}: not signed" in capsys.readouterr().err
    shutil.rmtree(base_path(str(tree), TINY) / "3")
    assert sign(tree, new, "--replace", str(keys.public)) == 0
    assert len(capsys.readouterr().out.split()) == 2
    assert read_public_keys([tree / TRUSTED_KEYS]) == read_public_keys([new.public])
    assert verify([str(tree), *both[2:]]) == 0


def test_promote_refuses_what_no_key_of_a_signed_tree_signed(
    tree: pathlib.Path, keys: KeyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sign(tree, keys) == 0
    add_version(tree, TINY, 2)
    (base_path(str(tree), TINY) / "2" / SIGNATURE).unlink()
    assert main(["write", str(tree)]) == 0
    settle(tree)
    for command, flags in (("promote", []), ("label", ["--label", "canary"])):
        with refused(tree, capsys, f"version 2 of {TINY}: not signed", "serving_configs sign"):
            assert run(command, tree, "--version", "2", *flags) == 2
    # Servers do not learn of it either, from this file.
    assert state(tree)[0] == [1]
    # What was stable before can always be returned to.
    for version in ("2", "1"):
        assert run("rollback", tree, "--version", version, "--poll_seconds", "0") == 0
    assert sign(tree, keys) == 0
    assert run("promote", tree, "--version", "2", "--poll_seconds", "0") == 0


def test_a_server_loads_only_what_a_key_signed(
    tree: pathlib.Path, keys: KeyFiles, tmp_path: pathlib.Path
) -> None:
    assert sign(tree, keys) == 0
    model = base_path(str(tree), TINY)
    flags: dict[str, Any] = {
        "model_name": TINY,
        "model_base_path": str(model),
        "enable_model_warmup": False,
        "max_num_load_retries": 0,
    }
    with running(**flags, require_signature=str(keys.public)) as server:
        assert server.own is not None
    both = tmp_path / "both.pem"
    other = write_keys(tmp_path, "other").public
    both.write_bytes(other.read_bytes() + keys.public.read_bytes())
    with running(**flags, require_signature=str(both)):
        pass
    with (
        pytest.raises(ServingError, match="signed by another key"),
        running(**flags, require_signature=str(other)),
    ):
        pass
    with (
        pytest.raises(ServingError, match=r"--require_signature=.*key.pem: a private key"),
        running(**flags, require_signature=str(keys.private)),
    ):
        pass
    (model / "1" / "fingerprint.pb").write_bytes(b"changed")
    with (
        pytest.raises(ServingError, match=r"fingerprint\.pb has 7 bytes"),
        running(**flags, require_signature=str(keys.public)),
    ):
        pass
