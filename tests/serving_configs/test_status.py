"""The command `status`: of the tree alone, and with servers that have loaded more or less of it."""

import json
import pathlib
from typing import Any

import pytest

from serving_configs import base_path
from serving_configs.__main__ import main
from serving_configs.tree.paths import SIGNATURE
from tests.support.keys import write_keys
from tests.support.model_server import running
from tests.support.rollout_commands import run
from tests.support.trees import MODELS, TINY, add_version, settle


def status(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str], *servers: str
) -> dict[tuple[str, int], dict[str, Any]]:
    flags = [part for server in servers for part in ("--server", server)]
    capsys.readouterr()
    assert main(["status", str(tree), "--json", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    return {(version.pop("model"), version.pop("version")): version for version in found}


def test_versions_have_their_labels_and_signatures(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    add_version(tree, TINY, 2)
    add_version(tree, TINY, 3)
    assert main(["write", str(tree)]) == 0
    settle(tree)
    assert run("label", tree, "--version", "2", "--label", "canary", "--poll_seconds", "0") == 0
    before = status(tree, capsys)
    assert before[TINY, 1] == {
        "labels": ["stable"],
        "named": True,
        "weights": "untrained",
        "classes": 1000,
        "image_size": 32,
        "compute_dtype": "float32",
        "profile": "latency",
        "signature": "not signed",
        "servers": {},
        "server_labels": {},
    }
    assert [before[TINY, n]["labels"] for n in (1, 2, 3)] == [["stable"], ["canary"], []]
    assert (before[MODELS[1], 1]["classes"], len(before)) == (0, 4)

    keys = write_keys(tmp_path)
    assert main(["sign", str(tree), "--sign_with", str(keys.private)]) == 0
    (base_path(str(tree), TINY) / "2" / SIGNATURE).unlink()
    after = status(tree, capsys)
    assert after[TINY, 1]["signature"] == "signed"
    assert after[TINY, 2]["signature"].startswith("not signed")

    assert main(["status", str(tree)]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == [
        *("model", "version", "labels", "weights", "classes", "pixels", "computes", "signature"),
    ]
    assert rows[0].split() == [TINY, "1", "stable", "untrained", "1000", "32", "float32", "signed"]


def test_a_server_s_states_are_beside_the_tree_s(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = add_version(tree, TINY, 2)
    with running(
        model_name=TINY, model_base_path=str(base_path(str(tree), TINY)), enable_model_warmup=False
    ) as server:
        address = f"127.0.0.1:{server.port}"
        found = status(tree, capsys, address)
        assert {key: version["servers"][address] for key, version in found.items()} == {
            (TINY, 1): "-",
            (TINY, 2): "AVAILABLE",
            (MODELS[1], 1): "-",
        }
        # What it has loaded is no longer there.
        other.rename(tree / "moved")
        assert status(tree, capsys, address)[TINY, 2] == {
            **{"labels": [], "named": False, "weights": "", "classes": 0, "image_size": 0},
            **{"compute_dtype": "", "profile": "", "signature": ""},
            "servers": {address: "AVAILABLE"},
            "server_labels": {address: []},
        }
        assert main(["status", str(tree), "--server", address]) == 0
        header, *rows = capsys.readouterr().out.splitlines()
        assert header.endswith(address)
        (row,) = [row for row in rows if "not published here" in row]
        assert row.split()[:2] == [TINY, "2"]
        assert row.endswith("AVAILABLE")
    assert main(["status", str(tree), "--server", "127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.startswith("error: server 127.0.0.1:1: UNAVAILABLE")


def test_a_server_s_own_labels_are_beside_the_tree_s(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_version(tree, TINY, 2)
    assert main(["write", str(tree)]) == 0
    with running(
        model_config_file=str(tree / "serving" / "models.config"),
        allow_version_labels_for_unavailable_models=True,
        enable_model_warmup=False,
    ) as server:
        address = f"127.0.0.1:{server.port}"
        server.until(TINY, {1: "AVAILABLE", 2: "AVAILABLE"})
        # The server does not read the file again.
        assert run("label", tree, "--version", "2", "--label", "new", "--poll_seconds", "0") == 0
        found = status(tree, capsys, address)
        assert found[TINY, 1]["server_labels"] == {address: found[TINY, 1]["labels"]}
        assert found[TINY, 1]["server_labels"][address] == ["canary", "stable"]
        assert found[TINY, 2]["labels"] == ["new"]
        assert found[TINY, 2]["server_labels"] == {address: []}
        assert main(["status", str(tree), "--server", address]) == 0
        _, *rows = capsys.readouterr().out.splitlines()
        assert rows[0].endswith("AVAILABLE (canary, stable)")
        assert rows[1].endswith(" AVAILABLE")


def test_an_empty_tree_is_named(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert "no published version; expected <model>/<version>" in capsys.readouterr().err
