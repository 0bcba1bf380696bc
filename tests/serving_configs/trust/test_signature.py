"""A version's signature: what it vouches for, and every way in which it does not."""

import base64
import dataclasses
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from serving_configs import MANIFEST, load_manifest, render_manifest
from serving_configs.tree.manifest import _as_text, _digest
from serving_configs.tree.paths import SIGNATURE
from serving_configs.trust.check import signed_version_problems, version_signature_problem
from serving_configs.trust.keys import PrivateKey, read_private_key, read_public_keys
from serving_configs.trust.signature import sign_manifest, signature_problem
from tests.support.keys import write_keys
from tests.support.manifests import write_small_version
from tests.support.paths import DATA

RECORDED = DATA / "model_signing"


@pytest.fixture
def key(tmp_path: pathlib.Path) -> PrivateKey:
    return read_private_key(write_keys(tmp_path).private)


@pytest.fixture
def version(tmp_path: pathlib.Path, key: PrivateKey) -> pathlib.Path:
    """A version that is signed."""
    directory = write_small_version(tmp_path / "serving" / "m" / "1")
    sign(directory, key)
    return directory


def sign(directory: pathlib.Path, key: PrivateKey) -> None:
    (directory / SIGNATURE).write_bytes(sign_manifest((directory / MANIFEST).read_bytes(), key))


def reseal(directory: pathlib.Path, **changes: Any) -> None:
    """Changes a manifest as somebody does who can write the tree."""
    manifest = dataclasses.replace(load_manifest(directory), **changes)
    (directory / MANIFEST).write_text(render_manifest(manifest))


def payload_of(directory: pathlib.Path) -> dict[str, Any]:
    bundle = json.loads((directory / SIGNATURE).read_bytes())
    payload: dict[str, Any] = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    return payload


def test_a_signed_version_verifies(version: pathlib.Path, key: PrivateKey) -> None:
    assert signed_version_problems(version, [key.public]) == []


def test_the_statement_is_of_the_files_the_gate_and_the_weights(version: pathlib.Path) -> None:
    statement = payload_of(version)
    names = [entry["name"] for entry in statement["predicate"]["resources"]]
    assert names == ["assets.extra/manifest.json", "saved_model.pb", "variables/variables.index"]
    for entry in statement["predicate"]["resources"]:
        assert entry["digest"] == hashlib.sha256((version / entry["name"]).read_bytes()).hexdigest()
    assert statement["subject"][0]["name"] == "m/1"
    assert statement["predicate"]["gate"]["outputs"][0]["difference"] == 1.5e-6
    assert statement["predicate"]["checkpoint"]["sha256"] == "a" * 64


def forge_weights(version: pathlib.Path) -> None:
    (version / "variables" / "variables.index").write_bytes(b"other")
    forged = hashlib.sha256(b"other").hexdigest()
    reseal(
        version,
        files=tuple(
            dataclasses.replace(record, sha256=forged) if record.path.endswith(".index") else record
            for record in load_manifest(version).files
        ),
    )


def forge_gate(version: pathlib.Path) -> None:
    gate = tuple({**figure, "difference": 0.0} for figure in load_manifest(version).gate)
    reseal(version, gate=gate)


def alter_payload(version: pathlib.Path) -> None:
    bundle = json.loads((version / SIGNATURE).read_bytes())
    statement = payload_of(version)
    statement["predicate"]["gate"]["images"] = 9
    altered = base64.b64encode(json.dumps(statement, indent=1).encode()).decode()
    bundle["dsseEnvelope"]["payload"] = altered
    (version / SIGNATURE).write_text(json.dumps(bundle))


def other_s_signature(version: pathlib.Path) -> None:
    sign(version, read_private_key(write_keys(version.parent, "other").private))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda v: (v / SIGNATURE).unlink(), "not signed: there is no assets.extra/model.sig"),
        (lambda v: (v / SIGNATURE).write_bytes(b"{}"), "not a signature; expected a Sigstore"),
        (lambda v: (v / SIGNATURE).write_bytes(b"[" * 100_000), "not a signature; expected"),
        (alter_payload, "the signature is wrong: it was changed after it was signed"),
        (other_s_signature, "signed by another key ("),
        (forge_weights, "it is of another manifest than assets.extra/manifest.json"),
        (forge_gate, "it is of another manifest than assets.extra/manifest.json"),
        (lambda v: (v / "saved_model.pb").write_bytes(b"GRAPH"), "saved_model.pb has SHA-256"),
        (lambda v: (v / "more").write_bytes(b""), "more is not in the manifest"),
        (lambda v: (v / MANIFEST).unlink(), "not signed: there is no assets.extra/manifest.json"),
    ],
    ids=[
        *("unsigned", "no bundle", "deep", "payload", "other key", "weights", "gate", "graph"),
        *("more", "no manifest"),
    ],
)
def test_what_was_changed_is_named(
    change: Callable[[pathlib.Path], object], expected: str, version: pathlib.Path, key: PrivateKey
) -> None:
    change(version)
    (problem,) = signed_version_problems(version, [key.public])
    assert expected in problem
    assert "\n" not in problem


def test_an_old_version_is_no_new_one(version: pathlib.Path, key: PrivateKey) -> None:
    later = pathlib.Path(shutil.copytree(version, version.with_name("2")))
    assert version_signature_problem(later, [key.public]) is None
    assert signed_version_problems(later, [key.public]) == [
        "the manifest is of version 1; expected 2"
    ]


def test_other_permissions_do_no_harm(version: pathlib.Path, key: PrivateKey) -> None:
    """A mount of Kubernetes gives files to a group."""
    (version / "saved_model.pb").chmod(0o664)
    (version / "variables").chmod(0o2775)
    assert signed_version_problems(version, [key.public]) == []


def test_a_manifest_with_odd_values_is_named(version: pathlib.Path, key: PrivateKey) -> None:
    signature = (version / SIGNATURE).read_bytes()
    for name, value in (("path", 5), ("size", "5")):
        content = json.loads((version / MANIFEST).read_bytes())
        content["files"][0][name] = value
        del content["seal"]
        odd = _as_text({**content, "seal": _digest(content)}).encode()
        problem = signature_problem(signature, odd, [key.public])
        assert problem is not None
        assert problem.startswith(f"{MANIFEST}: ValueError: file ")


def test_either_of_two_keys_counts(version: pathlib.Path, key: PrivateKey) -> None:
    (other,) = read_public_keys([write_keys(version.parent, "other").public])
    assert version_signature_problem(version, [other, key.public]) is None
    assert "signed by another key" in (version_signature_problem(version, [other]) or "")


def test_a_signature_by_model_signing_counts() -> None:
    """Recorded from model_signing 1.1.1: `sign key` of the version, with all that is in it."""
    keys = read_public_keys([RECORDED / "public.pem"])
    assert signed_version_problems(RECORDED / "m" / "1", keys) == []


def test_the_statement_is_model_signing_s(key: PrivateKey) -> None:
    """Ours of the same version differs by what the format lets a signer add and leave out."""
    directory = RECORDED / "m" / "1"
    manifest = (directory / MANIFEST).read_bytes()
    bundle = json.loads(sign_manifest(manifest, key))
    recorded = json.loads((directory / SIGNATURE).read_bytes())
    assert bundle.keys() == recorded.keys()
    assert bundle["mediaType"] == recorded["mediaType"]
    assert bundle["dsseEnvelope"].keys() == recorded["dsseEnvelope"].keys()
    assert bundle["dsseEnvelope"]["payloadType"] == recorded["dsseEnvelope"]["payloadType"]
    ours = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    theirs = payload_of(directory)
    warm_up = "assets.extra/tf_serving_warmup_requests"
    assert ours["predicate"]["resources"] == [
        {"name": entry["name"], "algorithm": "sha256", "digest": entry["digest"]}
        for entry in theirs["predicate"]["resources"]
        if entry["name"] != warm_up
    ]
    assert ours["predicate"]["serialization"].keys() == theirs["predicate"]["serialization"].keys()
    ignored = set(theirs["predicate"]["serialization"]["ignore_paths"]) | {warm_up}
    assert set(ours["predicate"]["serialization"]["ignore_paths"]) == ignored
    assert {name: ours[name] for name in ("_type", "predicateType")} == {
        name: theirs[name] for name in ("_type", "predicateType")
    }
    assert signature_problem(json.dumps(bundle).encode(), manifest, [key.public]) is None
