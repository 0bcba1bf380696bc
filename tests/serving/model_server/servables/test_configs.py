"""Configs that change what a running server has: models that come and go, and what is refused."""

import pathlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.support.model_server import (
    X,
    answer,
    configured,
    one_model,
    publish,
    refused,
    reload,
    running,
)

pytestmark = pytest.mark.slow

INVALID = grpc.StatusCode.INVALID_ARGUMENT

Models = Callable[..., pathlib.Path]


@pytest.mark.parametrize("policy", ["", "model_version_policy { all {} }"])
def test_without_polling_base_paths_are_looked_at_once(
    base: pathlib.Path, half_plus: Models, tmp_path: pathlib.Path, policy: str
) -> None:
    publish(base / "1", half_plus(1.0))
    (tmp_path / "other").mkdir()
    publish(tmp_path / "other" / "1", half_plus(1.0))
    with running(
        model_name="m", model_base_path=str(base), file_system_poll_wait_seconds=0
    ) as server:
        publish(base / "2", half_plus(2.0))
        # Neither the same config nor another one makes the server look again.
        reload(server, one_model(base, policy))
        server.polled()
        assert server.states("m") == {1: "AVAILABLE"}
        # So what is new is waited for in vain. What a config no longer has goes all the same.
        with pytest.raises(grpc.RpcError) as caught:
            reload(server, one_model(tmp_path / "other", name="new"), timeout=2)
        error: Any = caught.value
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        server.until("m", {1: "END"})
        with refused(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model new"):
            server.states("new")


def test_models_come_and_go_with_the_config(
    base: pathlib.Path, half_plus: Models, tmp_path: pathlib.Path
) -> None:
    publish(base / "1", half_plus(1.0))
    other = tmp_path / "other"
    other.mkdir()
    publish(other / "5", half_plus(5.0, "tf2"))
    with running(model_name="m", model_base_path=str(base)) as server:
        reload(server, one_model(base), one_model(other, name="other"))
        # The reload waits for what is new.
        assert server.states("other") == {5: "AVAILABLE"}
        assert server.predict("other", X)["y"][0] == 6.0
        reload(server, one_model(other, name="other"))
        server.until("m", {1: "END"})
        with refused(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(m)"):
            answer(server)
        reload(server, one_model(base), one_model(other, name="other"))
        assert answer(server) == 2.0


def test_configs_that_are_refused(
    base: pathlib.Path, half_plus: Models, tmp_path: pathlib.Path
) -> None:
    publish(base / "1", half_plus(1.0))
    with running(model_name="m", model_base_path=str(base)) as server:
        with refused(
            INVALID,
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported",
        ):
            server.models.HandleReloadConfigRequest(configured(""), 30)
        with refused(INVALID, "Illegal to list model m multiple times in config list"):
            reload(server, one_model(base), one_model(base))
        with refused(
            INVALID, "Expected model m to have an absolute path or URI; got base_path()=a/m"
        ):
            reload(server, one_model(pathlib.Path("a/m")))
        with refused(
            INVALID,
            "Illegal to change a model's platform. For model m platform was tensorflow and new "
            "platform requested is other",
        ):
            reload(server, one_model(base).replace('"tensorflow"', '"other"'))
        with refused(INVALID, "Model new requests unsupported platform other"):
            reload(server, one_model(base, name="new").replace('"tensorflow"', '"other"'))
        with refused(
            INVALID,
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform.",
        ):
            reload(server, one_model(base).replace('model_platform: "tensorflow"', ""))
        empty = tmp_path / "broken"
        (empty / "4").mkdir(parents=True)
        with pytest.raises(grpc.RpcError) as caught:
            reload(server, one_model(base), one_model(empty, name="broken"))
        error: Any = caught.value
        assert error.code() == grpc.StatusCode.UNKNOWN
        assert error.details().startswith(
            "1 model(s) did not become available: {{{name: broken version: 4} due to error: "
            "NOT_FOUND: Could not find SavedModel"
        )
        # The reply comes before the call's deadline even if the model never does.
        with pytest.raises(grpc.RpcError) as caught:
            reload(server, one_model(base), one_model(tmp_path / "no", name="no"), timeout=1)
        error = caught.value
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert answer(server) == 2.0


def test_the_config_file_is_read_again(
    base: pathlib.Path, half_plus: Models, tmp_path: pathlib.Path
) -> None:
    for version in (1, 2):
        publish(base / str(version), half_plus(float(version)))
    file = tmp_path / "models.config"
    policy = "model_version_policy {{ specific {{ versions: {} }} }}".format
    text = "model_config_list {{ {} }}".format
    file.write_text(text(one_model(base, policy(1))))
    with running(model_config_file=str(file), model_config_file_poll_wait_seconds=0.2) as server:
        assert server.states("m") == {1: "AVAILABLE"}
        file.write_text("model_config_list {")
        server.polled()
        assert answer(server) == 2.0
        file.write_text(text(one_model(base, policy(2))))
        server.until("m", {2: "AVAILABLE", 1: "END"})
        assert answer(server) == 3.0
