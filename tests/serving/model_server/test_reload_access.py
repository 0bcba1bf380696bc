"""HandleReloadConfigRequest calls that wait for ever, and a server that lets none in."""

import pathlib
from collections.abc import Callable

import grpc
import pytest

from serving.model_server.servables.core import ServerCore
from tests.support.model_server import (
    Running,
    answer,
    configured,
    one_model,
    publish,
    refused,
    reload,
    running,
)
from tests.support.waiting import until


@pytest.fixture
def base(tmp_path: pathlib.Path, half_plus: Callable[..., pathlib.Path]) -> pathlib.Path:
    path = tmp_path / "m"
    path.mkdir()
    publish(path / "1", half_plus(2.0))
    return path


def holds_lock(core: ServerCore) -> bool:
    return core._config_lock.locked()


def reloads(server: Running, base: pathlib.Path) -> bool:
    try:
        reload(server, one_model(base))
    except grpc.RpcError:
        return False
    return True


def test_calls_that_are_given_up_hold_no_thread_and_no_config(base: pathlib.Path) -> None:
    with running(model_name="m", model_base_path=str(base), grpc_max_threads=4) as server:
        core = server.server.core
        # Its base path may appear later, and it has no deadline.
        models = f"{one_model(base)} {one_model(base.with_name('none'), name='n')}"
        request = configured(f"config {{ model_config_list {{ {models} }} }}")
        calls = [server.models.HandleReloadConfigRequest.future(request)]
        until(lambda: holds_lock(core) and core.serves("n"))
        calls += [server.models.HandleReloadConfigRequest.future(request) for _ in range(2)]
        until(lambda: any(call.done() for call in calls))
        # Half of the threads may wait. The others answer.
        (more,) = (call for call in calls if call.done())
        assert more.exception().details() == "Other configs are being loaded; try again later"
        assert answer(server) == 3.0
        for call in calls:
            call.cancel()
        until(lambda: reloads(server, base))
        assert answer(server) == 3.0


def test_no_call_is_let_in(base: pathlib.Path) -> None:
    with running(model_name="m", model_base_path=str(base), allow_reload=False) as server:
        with refused(
            grpc.StatusCode.PERMISSION_DENIED,
            "No config may be loaded by a call: --allow_reload=false",
        ):
            reload(server, one_model(base))
        assert answer(server) == 3.0
