"""Small SavedModels of both styles, and one server of all that no test changes."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serving.model_server.launch import find_binary
from tests.support import model_server
from tests.support.half_plus import write_tf1, write_tf2
from tests.support.model_server import Running, publish, running
from tests.support.trees import untrained_copy


def pytest_configure(config: pytest.Config) -> None:
    model_server.server_binary = find_binary(config.getoption("--server_binary"))


@pytest.fixture(scope="session")
def half_plus(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., pathlib.Path]:
    """`half_plus(b, style)` -> directory of a model y = x / 2 + b. Not to be written to."""
    built: dict[tuple[float, str], pathlib.Path] = {}
    root = tmp_path_factory.mktemp("half_plus")

    def of(b: float = 2.0, style: str = "tf1") -> pathlib.Path:
        if (b, style) not in built:
            built[b, style] = root / f"{style}_{b}"
            {"tf1": write_tf1, "tf2": write_tf2}[style](built[b, style], b)
        return built[b, style]

    return of


@pytest.fixture(scope="session")
def served(
    half_plus: Callable[..., pathlib.Path],
    tiny_models: dict[Any, pathlib.Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """One server with all models that no test changes: tf1, tf2, cait, and random, which is cait
    with the mark of random weights.
    """
    root = tmp_path_factory.mktemp("served")
    for name, source in {
        "tf1": half_plus(2.0),
        "tf2": half_plus(2.0, "tf2"),
        "cait": tiny_models["classifier"],
    }.items():
        (root / name).mkdir()
        publish(root / name / "1", source)
    untrained_copy(tiny_models["classifier"], root / "random" / "1")
    config = root / "models.config"
    config.write_text(
        "model_config_list {\n"
        + "\n".join(
            f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "tensorflow" '
            f'version_labels {{ key: "stable" value: 1 }} '
            f'version_labels {{ key: "gone" value: 9 }} }}'
            for name in ("tf1", "tf2", "cait", "random")
        )
        + "\n}\n"
    )
    monitoring = root / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    with running(
        model_config_file=str(config),
        allow_version_labels_for_unavailable_models=True,
        rest=True,
        monitoring_config_file=str(monitoring),
    ) as server:
        yield server
