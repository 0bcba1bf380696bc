"""The page as a process, in front of a server of tiny models that comes and goes; and a browser."""

import pathlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.browser import CHROMIUM, SLOW
from tests.support.model_server import Running, publish, running
from tests.support.page_process import page_process
from tests.support.programs import require_program
from tests.support.trees import untrained_copy


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
    """A models config of a classifier and a feature extractor, which is marked as untrained."""
    root = tmp_path_factory.mktemp("page")
    entries = []
    for name, head in {"cait": "classifier", "cait_fe": "features"}.items():
        (root / name).mkdir()
        if head == "classifier":
            publish(root / name / "1", tiny_models[head])
        else:
            untrained_copy(tiny_models[head], root / name / "1")
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
    """Another one than the page begins with."""
    return data / "photos" / "astronaut_444.jpg"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Without windows, a sandbox, which root has none of, and calls home: Playwright's defaults.
        browser = playwright.chromium.launch(
            executable_path=require_program(*CHROMIUM), args=["--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """The page in a new tab. Whatever it does, no script fails and nothing comes from elsewhere."""
    context = browser.new_context()
    context.set_default_timeout(SLOW)
    tab = context.new_page()
    errors: list[str] = []
    asked: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(url)
    yield tab
    context.close()
    assert errors == []
    assert [address for address in asked if not address.startswith((url, "data:"))] == []
