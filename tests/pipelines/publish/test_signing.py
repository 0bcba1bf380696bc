"""Publishing with --sign_with: new versions and those of before, and what is refused."""

import json
import pathlib
import shutil

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pipelines.publish.software import bill_of_materials
from pipelines.verify import main as verify
from serving_configs.tree.paths import SBOM, SIGNATURE
from serving_configs.trust.keys import TRUSTED_KEYS, read_public_keys
from tests.support.keys import write_keys
from tests.support.trees import TINY


@pytest.mark.slow
def test_a_run_signs_what_it_publishes_and_what_was_there(
    publish_tiny, tiny_tree, tmp_path, shards, capfd
):
    tree = pathlib.Path(shutil.copytree(tiny_tree, tmp_path / "tree"))
    model = tree / "serving" / f"{TINY}_fe"
    archives = tree / "hub" / "cait" / f"{TINY}_fe"
    keys, other = (write_keys(tmp_path, name) for name in ("key", "other"))
    flags = (
        "--publish_to",
        str(tree),
        "--heads",
        "features",
        "--sample_shard",
        shards.replace("*", "00000*"),
    )
    signed = (*flags, "--sign_with", str(keys.private))
    unsigned_archive = (archives / "1.tar.gz").read_bytes()

    # A version of before is not signed where one of its files was changed.
    content = (model / "1" / "fingerprint.pb").read_bytes()
    (model / "1" / "fingerprint.pb").write_bytes(b"changed")
    result = publish_tiny(*signed)
    assert result.status == 2
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert "fingerprint.pb has 7 bytes" in error
    assert not (model / "1" / SIGNATURE).exists()

    (model / "1" / "fingerprint.pb").write_bytes(content)
    for number, version in ((1, "auto"), (7, "7")):
        result = publish_tiny(*signed, "--version", version)
        assert result.status == 0, result.stderr
        assert (model / str(number) / SIGNATURE).is_file()
    assert (archives / "1.tar.gz").read_bytes() != unsigned_archive
    assert read_public_keys([tree / TRUSTED_KEYS]) == read_public_keys([keys.public])
    # The classifier was not in the run.
    capfd.readouterr()
    assert verify([str(tree), "--public_key", str(keys.public)]) == 1
    problems = capfd.readouterr().err.splitlines()
    assert len(problems) == 1
    assert f"{TINY}/1: not signed" in problems[0]

    # A tree that is signed takes nothing that is not.
    for arguments, expected in {
        flags: f"its versions are signed ({TRUSTED_KEYS}); publish with --sign_with",
        (*flags, "--sign_with", str(other.private)): "other.pem: none of the keys in ",
        (*flags, "--sign_with", str(keys.public)): "not a private key in PEM",
    }.items():
        result = publish_tiny(*arguments)
        assert result.status == 2
        assert result.stderr.count("\n") == 1
        assert expected in result.stderr


def test_the_software_of_a_version_is_a_bill_of_materials(tiny_tree):
    text = (tiny_tree / "serving" / TINY / "1" / SBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {c["name"]: c for c in json.loads(text)["components"]}
    assert components["tensorflow"]["purl"].startswith("pkg:pypi/tensorflow@2.21")
    assert components["cpython"]["version"].startswith("3.11.")
    assert {"apache-beam", "numpy", "safetensors", "tf-keras"} <= components.keys()
    assert "cait-serving" not in components


def test_the_same_software_gives_the_same_bytes():
    first = bill_of_materials()
    bill_of_materials.cache_clear()
    assert bill_of_materials() == first
