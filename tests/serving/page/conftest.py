"""The page as a process, in front of a server of tiny models that may go and come back."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving.conftest import Running, publish, running

REPOSITORY = pathlib.Path(__file__).parents[3]


@contextlib.contextmanager
def page_process(*flags: str, **environment: str) -> Iterator[tuple[str, Any]]:
    """A page as people start it -> its address and the process."""
    own = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    with subprocess.Popen(
        [sys.executable, "-m", "serving.page", "--port=0", *flags],
        cwd=REPOSITORY,
        env={**own, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            assert line.startswith("page: http://"), process.stderr and process.stderr.read()
            yield line.split()[1], process
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")


@pytest.fixture(scope="module")
def port() -> int:
    """A port for the model server, which goes away and comes back at it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


@pytest.fixture(scope="module")
def config(
    tiny_models: dict[Any, pathlib.Path], tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """A models config of a classifier and a feature extractor."""
    root = tmp_path_factory.mktemp("page")
    entries = []
    for name, head in {"cait": "classifier", "cait_fe": "features"}.items():
        (root / name).mkdir()
        publish(root / name / "1", tiny_models[head])
        entries.append(
            f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "tensorflow" }}'
        )
    path = root / "models.config"
    path.write_text("model_config_list {\n" + "\n".join(entries) + "\n}\n")
    return path


@pytest.fixture
def server(port: int, config: pathlib.Path) -> Iterator[Running]:
    with running(
        port=port,
        model_config_file=str(config),
        max_num_load_retries=1,
        load_retry_interval_micros=600_000_000,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def url(port: int, config: pathlib.Path) -> Iterator[str]:
    with page_process(f"--server=localhost:{port}", f"--models_from={config}") as (url, _):
        yield url


@pytest.fixture
def photo(data: pathlib.Path) -> pathlib.Path:
    return data / "photos" / "cat.jpg"
