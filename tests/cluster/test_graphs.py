"""The publish job's graph for engines that are not here: translated, not run."""

import json
import pathlib
import subprocess
import sys
import sysconfig
import venv

import pytest

from tests.support.cluster.inputs import documented
from tests.support.paths import REPOSITORY

_LOCK = REPOSITORY / "tests" / "support" / "cluster" / "dataflow.lock"
_IMAGE = "registry.example/cait-worker:0.1.0"


@pytest.fixture(scope="session")
def with_clients_of_google(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with what Beam needs for Dataflow, beside the packages that are here."""
    folder = tmp_path_factory.mktemp("dataflow")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    own = pathlib.Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    (own / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    subprocess.run([python, "-m", "pip", *install, "--requirement", str(_LOCK)], check=True)
    return python


def translated(python: str, command: list[str]) -> dict[str, object]:
    done = subprocess.run(
        [python, "-m", "tests.support.cluster.translate", *command[3:]],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_the_graph_is_translated_for_dataflow(with_clients_of_google: str) -> None:
    command = [*documented("--runner DataflowRunner", {}), "--dry_run=True"]
    found = translated(with_clients_of_google, command)
    assert found["image"] == _IMAGE
    assert {"Convert/ConvertVariant", "Validate/ValidateVariant", "Publish/PublishModel"} <= set(
        found["steps"]  # type: ignore[call-overload]
    )


def test_the_graph_is_translated_for_spark() -> None:
    found = translated(sys.executable, documented("--runner PortableRunner", {}))
    assert found["image"] == _IMAGE
    assert "Report/WriteReport" in found["steps"]  # type: ignore[operator]
