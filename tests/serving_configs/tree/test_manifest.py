"""The manifest: comes back as it was, shows every change of itself and of the files."""

import dataclasses
import json
import os
import pathlib
import shutil

import pytest

from serving_configs import (
    MANIFEST,
    ManifestError,
    contract_digest,
    load_manifest,
    parse_manifest,
    published_versions,
    render_manifest,
    version_problems,
)
from tests.support.manifests import GEOMETRY, manifest_of, write_small_version


@pytest.fixture
def version(tmp_path: pathlib.Path) -> pathlib.Path:
    """A version in a published tree, complete."""
    return write_small_version(tmp_path / "serving" / "m" / "1")


def test_manifest_comes_back_as_it_was(version):
    manifest = manifest_of(version)
    assert parse_manifest(render_manifest(manifest)) == manifest
    assert load_manifest(version) == manifest
    assert [record.path for record in manifest.files] == [
        "saved_model.pb",
        "variables/variables.index",
    ]


def test_content_is_of_the_files_and_nothing_else(version):
    manifest = manifest_of(version)
    other = dataclasses.replace(manifest, version=9, run="another", images=0, gate=())
    assert other.content == manifest.content
    changed = (dataclasses.replace(manifest.files[0], sha256="0" * 64), *manifest.files[1:])
    assert dataclasses.replace(manifest, files=changed).content != manifest.content
    assert dataclasses.replace(manifest, model="n").content != manifest.content


def test_contract_digest_tells_heads_and_sizes_apart():
    digests = {
        contract_digest("classifier", GEOMETRY),
        contract_digest("features", GEOMETRY),
        contract_digest("classifier", dataclasses.replace(GEOMETRY, image_size=48)),
    }
    assert len(digests) == 3


def test_every_flipped_bit_of_a_manifest_shows(version):
    text = (version / MANIFEST).read_bytes()
    for i in range(len(text)):
        for bit in (0, 5):
            changed = text[:i] + bytes([text[i] ^ (1 << bit)]) + text[i + 1 :]
            with pytest.raises(ManifestError):
                parse_manifest(changed)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"format": 1}', "\udcff", "[" * 10_000])
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(ManifestError):
        parse_manifest(text.encode("utf-8", "surrogateescape"))


def test_sealed_manifest_that_lacks_something_is_refused(version):
    from serving_configs.tree.manifest import _as_text, _digest

    content = json.loads((version / MANIFEST).read_text())
    del content["seal"], content["checkpoint"]["trained"]
    with pytest.raises(ManifestError, match="trained"):
        parse_manifest(_as_text({**content, "seal": _digest(content)}))


def test_manifest_from_before_another_type_could_be_asked_for_is_read(version):
    from serving_configs.tree.manifest import _as_text, _digest

    content = json.loads((version / MANIFEST).read_text())
    del content["seal"], content["compute_dtype"]
    manifest = parse_manifest(_as_text({**content, "seal": _digest(content)}))
    assert manifest.compute_dtype == "float32"


def test_complete_version_has_no_problems(version):
    assert version_problems(version) == []


def break_truncated(version):
    (version / "variables" / "variables.index").write_bytes(b"ind")
    return "variables/variables.index has 3 bytes; expected 5"


def break_changed(version):
    (version / "saved_model.pb").write_bytes(b"Graph")
    return "saved_model.pb has SHA-256"


def break_missing(version):
    (version / "saved_model.pb").unlink()
    return "saved_model.pb is missing"


def break_extra(version):
    (version / "notes").write_bytes(b"x")
    return "notes is not in the manifest"


def break_manifest(version):
    (version / MANIFEST).write_text("{")
    return f"{version / MANIFEST}: not JSON"


def break_no_manifest(version):
    (version / MANIFEST).unlink()
    return f"{version / MANIFEST}: cannot be read (No such file or directory)"


def break_file_becomes_directory(version):
    (version / "saved_model.pb").unlink()
    (version / "saved_model.pb").mkdir()
    return "saved_model.pb is an empty directory; expected none"


def break_file_becomes_link(version):
    shutil.copyfile(version / "saved_model.pb", version.with_name("same"))
    (version / "saved_model.pb").unlink()
    (version / "saved_model.pb").symlink_to("../same")
    return "saved_model.pb is a link; expected a file"


def break_file_becomes_pipe(version):
    (version / "saved_model.pb").unlink()
    os.mkfifo(version / "saved_model.pb")
    return "saved_model.pb is a named pipe; expected a file"


def break_manifest_becomes_pipe(version):
    (version / MANIFEST).unlink()
    os.mkfifo(version / MANIFEST)
    return f"{version / MANIFEST}: cannot be read (not a file)"


def break_file_that_only_its_owner_reads(version):
    (version / "saved_model.pb").chmod(0o600)
    return "saved_model.pb has permissions 0600; expected 0644 or 0444"


BREAKS = [value for name, value in sorted(globals().items()) if name.startswith("break_")]


@pytest.mark.parametrize("damage", BREAKS, ids=lambda f: f.__name__)
def test_damage_is_named(version, damage):
    expected = damage(version)
    (problem,) = version_problems(version)
    assert problem.startswith(expected)


def test_version_that_was_moved_is_named(version):
    version.rename(version.with_name("2"))
    (problem,) = version_problems(version.with_name("2"))
    assert problem == "the manifest is of version 1; expected 2"


def test_published_versions_are_those_with_a_manifest(version, tmp_path):
    for name in ("10", "3", "notes"):
        directory = version.with_name(name)
        (directory / "assets.extra").mkdir(parents=True)
        (directory / MANIFEST).write_text("{}")
    version.with_name("11").mkdir()
    (tmp_path / "serving" / "empty").mkdir()
    (tmp_path / "serving" / "models.config").write_text("")
    assert published_versions(str(tmp_path)) == {"m": [1, 3, 10]}
    assert published_versions(str(tmp_path / "nowhere")) == {}
