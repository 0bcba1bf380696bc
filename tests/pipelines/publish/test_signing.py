"""Publishing with --sign_with: what a run makes is signed, what was there is not."""

import dataclasses
import json
import pathlib
import shutil

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pipelines.publish.signing import signed_at_the_end
from pipelines.publish.software import bill_of_materials
from pipelines.store.local import LocalStore
from pipelines.verify import main as verify
from serving_configs import MANIFEST, load_manifest, render_manifest
from serving_configs.tree.paths import SBOM, SIGNATURE
from serving_configs.trust.check import signed_version_problems
from serving_configs.trust.keys import TRUSTED_KEYS, read_private_key, read_public_keys
from tests.support.keys import write_keys
from tests.support.manifests import write_small_version
from tests.support.trees import TINY


@pytest.mark.slow
def test_a_run_signs_what_it_makes_and_nothing_else(
    publish_tiny, tiny_tree, tmp_path, shards, capfd
):
    tree = pathlib.Path(shutil.copytree(tiny_tree, tmp_path / "tree"))
    model = tree / "serving" / f"{TINY}_fe"
    keys, other = (write_keys(tmp_path, name) for name in ("key", "other"))
    sample = shards.replace("*", "00000*")
    flags = ("--publish_to", str(tree), "--heads", "features", "--sample_shard", sample)
    signed = (*flags, "--sign_with", str(keys.private))

    result = publish_tiny(*signed, "--version", "7")
    assert result.status == 0, result.stderr
    assert (model / "7" / SIGNATURE).is_file()
    assert not (model / "1" / SIGNATURE).exists()
    assert read_public_keys([tree / TRUSTED_KEYS]) == read_public_keys([keys.public])
    capfd.readouterr()
    assert verify([str(tree), "--public_key", str(keys.public)]) == 1
    problems = capfd.readouterr().err.splitlines()
    assert len(problems) == 2
    assert all("/1: not signed" in problem for problem in problems)

    # What somebody changed in a version of before is not signed for him by the next run.
    (model / "7" / SIGNATURE).unlink()
    manifest = load_manifest(model / "7")
    changed = dataclasses.replace(manifest, images=10**6)
    (model / "7" / MANIFEST).write_text(render_manifest(changed))
    result = publish_tiny(*signed)
    assert result.status == 0
    (note,) = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert f"{TINY}_fe/7 was published before and stays as it is: not signed" in note
    assert not (model / "7" / SIGNATURE).exists()

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


def test_what_a_run_had_published_is_signed_when_it_is_interrupted(tmp_path):
    store = LocalStore(str(tmp_path))
    key = read_private_key(write_keys(tmp_path).private)
    # The run's name in the manifests of `write_small_version` is `r`.
    own, strange = (write_small_version(tmp_path / "serving" / "m" / str(n)) for n in (1, 2))
    manifest = dataclasses.replace(load_manifest(strange), run="another")
    (strange / MANIFEST).write_text(render_manifest(manifest))
    with (
        pytest.raises(KeyboardInterrupt),
        signed_at_the_end(store, "r", lambda: ["m", "not published"], key),
    ):
        raise KeyboardInterrupt
    assert signed_version_problems(own, [key.public]) == []
    assert not (strange / SIGNATURE).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("key.pem", "key.public.pem", "serving", TRUSTED_KEYS),
    ]


def test_the_software_of_a_version_is_a_bill_of_materials(tiny_tree):
    text = (tiny_tree / "serving" / TINY / "1" / SBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {c["name"]: c for c in json.loads(text)["components"]}
    assert components["tensorflow"]["purl"].startswith("pkg:pypi/tensorflow@2.21")
    assert components["cpython"]["version"].startswith("3.11.")
    assert {"apache-beam", "numpy", "safetensors", "tf-keras"} <= components.keys()
    assert "cait-serving" not in components


@pytest.mark.slow
def test_the_same_software_gives_the_same_bytes():
    first = bill_of_materials()
    bill_of_materials.cache_clear()
    assert bill_of_materials() == first
