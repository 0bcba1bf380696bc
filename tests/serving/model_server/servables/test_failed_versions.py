"""Versions that cannot be loaded: what is served meanwhile, what is said, what is tried again."""

import pathlib
import shutil
from collections.abc import Callable

import pytest

from serving.errors import Code, ServingError
from tests.support.model_server import answer, one_model, publish, reload, running, server_binary

pytestmark = pytest.mark.slow

Models = Callable[..., pathlib.Path]


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("saved_model.pb", "Could not find SavedModel .pb or .pbtxt at supplied export"),
        ("variables/variables.index", "variables.index; No such file or directory"),
        ("variables/variables.data-00000-of-00001", "00000-of-00001; No such file or directory"),
    ],
)
@pytest.mark.parametrize("style", ["tf1", "tf2"])
def test_an_incomplete_version_leaves_the_one_before(
    base: pathlib.Path, half_plus: Models, lost: str, message: str, style: str
) -> None:
    if lost == "variables/variables.index" and server_binary is not None:
        pytest.skip("the real server finds that at the first request")
    publish(base / "1", half_plus(1.0))
    with running(model_name="m", model_base_path=str(base)) as server:
        incomplete = base.parent / "incomplete"
        shutil.copytree(half_plus(2.0, style), incomplete)
        (incomplete / lost).unlink()
        publish(base / "2", incomplete)
        server.until("m", {2: "END", 1: "AVAILABLE"})
        assert answer(server) == 2.0
        failed, serving = server.status("m").model_version_status
        assert (failed.version, failed.status.error_code) == (2, 5)
        assert message in failed.status.error_message
        assert (serving.version, serving.status.error_code) == (1, 0)


def broken(source: pathlib.Path, directory: pathlib.Path) -> pathlib.Path:
    """A version whose graph cannot be found."""
    shutil.copytree(source, directory)
    (directory / "saved_model.pb").unlink()
    return directory


def test_a_version_that_failed_and_comes_back_whole_stays_as_it_is(
    base: pathlib.Path, half_plus: Models
) -> None:
    publish(base / "1", half_plus(1.0))
    with running(model_name="m", model_base_path=str(base)) as server:
        publish(base / "2", broken(half_plus(2.0), base.parent / "broken"))
        server.until("m", {2: "END", 1: "AVAILABLE"})
        shutil.rmtree(base / "2")
        server.polled()
        publish(base / "2", half_plus(2.0))
        server.polled()
        assert server.states("m") == {2: "END", 1: "AVAILABLE"}
        assert answer(server) == 2.0
        # Version 1 would have to go before it can be wanted again. Another number ends that.
        publish(base / "3", half_plus(3.0))
        server.until("m", {3: "AVAILABLE", 2: "END", 1: "END"})
        assert answer(server) == 4.0


def test_a_version_that_failed_alone_is_tried_again_when_it_comes_back(
    base: pathlib.Path, half_plus: Models
) -> None:
    publish(base / "1", half_plus(1.0))
    with running(model_name="m", model_base_path=str(base)) as server:
        reload(server, one_model(base, "model_version_policy { all {} }"))
        publish(base / "2", broken(half_plus(2.0), base.parent / "broken"))
        server.until("m", {2: "END", 1: "AVAILABLE"})
        shutil.rmtree(base / "2")
        server.polled()
        # No other version was to go for it.
        publish(base / "2", half_plus(2.0))
        server.until("m", {2: "AVAILABLE", 1: "AVAILABLE"})


def test_a_failing_version_keeps_a_server_with_others_from_coming_up(
    base: pathlib.Path, half_plus: Models
) -> None:
    broken(half_plus(2.0), base / "2")
    publish(base / "1", half_plus(1.0))
    config = base.parent / "models.config"
    policy = "model_version_policy { all {} }"
    config.write_text(f"model_config_list {{ {one_model(base, policy)} }}")
    with (
        pytest.raises(ServingError, match="did not become available") as caught,
        running(model_config_file=str(config)),
    ):
        pass
    assert caught.value.code == Code.UNKNOWN


def test_a_broken_graph_file(base: pathlib.Path, half_plus: Models) -> None:
    publish(base / "1", half_plus(1.0))
    with running(model_name="m", model_base_path=str(base)) as server:
        truncated = base.parent / "truncated"
        shutil.copytree(half_plus(2.0), truncated)
        data = (truncated / "saved_model.pb").read_bytes()
        (truncated / "saved_model.pb").write_bytes(data[: len(data) // 2])
        publish(base / "2", truncated)
        server.until("m", {2: "END", 1: "AVAILABLE"})
        status = server.status("m").model_version_status[0].status
        assert (status.error_code, status.error_message) == (11, "Read less bytes than requested")
        assert answer(server) == 2.0


def test_a_failed_load_is_tried_again(base: pathlib.Path, half_plus: Models) -> None:
    publish(base / "1", half_plus(1.0))
    with running(
        model_name="m",
        model_base_path=str(base),
        max_num_load_retries=50,
        load_retry_interval_micros=200_000,
    ) as server:
        source = half_plus(2.0)
        shutil.copytree(source, base / "2", ignore=shutil.ignore_patterns("variables.index"))
        server.until("m", {2: "LOADING", 1: "AVAILABLE"})
        shutil.copy(source / "variables/variables.index", base / "2/variables/variables.index")
        server.until("m", {2: "AVAILABLE", 1: "END"})
        assert answer(server) == 3.0
