"""Versions that come, go and fail, while requests go on."""

import pathlib
import shutil
import threading
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from serving.errors import Code, ServingError
from serving.model_server.servables.storage import version_number
from tests.support.model_server import (
    X,
    answer,
    one_model,
    publish,
    refused,
    reload,
    running,
)
from tests.support.waiting import until

pytestmark = pytest.mark.slow

FAILED = grpc.StatusCode.FAILED_PRECONDITION
INVALID = grpc.StatusCode.INVALID_ARGUMENT

Models = Callable[..., pathlib.Path]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1", 1),
        ("001", 1),
        ("-3", -3),
        (" 7 ", 7),
        ("+7", None),
        ("1.0", None),
        ("v1", None),
        ("", None),
        ("\u0661", None),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
    ],
)
def test_names_that_are_versions(name: str, number: int | None) -> None:
    assert version_number(name) == number


def test_no_request_fails_while_versions_change(base: pathlib.Path, half_plus: Models) -> None:
    publish(base / "1", half_plus(1.0))
    with running(model_name="m", model_base_path=str(base)) as server:
        stop = threading.Event()
        answers: list[float] = []
        errors: list[grpc.RpcError] = []

        def ask() -> None:
            while not stop.is_set():
                try:
                    answers.append(answer(server))
                except grpc.RpcError as error:
                    errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        states = {1: "AVAILABLE"}
        for version in (2, 3):
            publish(base / str(version), half_plus(float(version)))
            states = {version: "AVAILABLE", **dict.fromkeys(states, "END")}
            server.until("m", states)
            shutil.rmtree(base / str(version - 1))
        stop.set()
        for thread in threads:
            thread.join()
        assert not errors
        assert set(answers) == {2.0, 3.0, 4.0}
        # Each version took over for good.
        assert answer(server) == 4.0


@pytest.mark.slow
def test_a_version_in_use_is_unloaded_when_it_no_longer_is(
    base: pathlib.Path, half_plus: Models
) -> None:
    publish(base / "1", half_plus(1.0, "tf2"))
    with running(model_name="m", model_base_path=str(base)) as server:
        begun = base.parent / "begun"
        seconds = np.array([8.0], np.float32)
        inputs = {**X, "seconds": seconds, "begun": np.array([str(begun)], object)}
        replies = []
        slow = threading.Thread(
            target=lambda: replies.append(server.predict("m", inputs, "announced")["y"][0])
        )
        slow.start()
        until(begun.exists)
        publish(base / "2", half_plus(2.0))
        server.until("m", {2: "AVAILABLE", 1: "UNLOADING"}, 8)
        assert answer(server) == 3.0
        with refused(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(m, 1)"):
            answer(server, version=1)
        slow.join()
        assert replies == [2.0]
        server.until("m", {2: "AVAILABLE", 1: "END"})


def test_an_empty_base_path_unloads_all(base: pathlib.Path, half_plus: Models) -> None:
    publish(base / "1", half_plus(1.0))
    with running(model_name="m", model_base_path=str(base)) as server:
        base.rename(base.parent / "away")
        server.polled()
        # A base path that is not there says nothing about versions.
        assert answer(server) == 2.0
        (base.parent / "away").rename(base)
        shutil.rmtree(base / "1")
        server.until("m", {1: "END"})
        with refused(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(m)"):
            answer(server)


def test_policies(base: pathlib.Path, half_plus: Models) -> None:
    for version in (1, 2, 3):
        publish(base / str(version), half_plus(float(version)))
    (base / "not-a-version").mkdir()
    with running(model_name="m", model_base_path=str(base)) as server:
        assert server.states("m") == {3: "AVAILABLE"}
        reload(server, one_model(base, "model_version_policy { latest { num_versions: 2 } }"))
        server.until("m", {3: "AVAILABLE", 2: "AVAILABLE"})
        reload(server, one_model(base, "model_version_policy { all {} }"))
        server.until("m", {3: "AVAILABLE", 2: "AVAILABLE", 1: "AVAILABLE"})
        assert answer(server) == 4.0
        assert answer(server, version=1) == 2.0
        reload(server, one_model(base, "model_version_policy { specific { versions: 1 } }"))
        server.until("m", {3: "END", 2: "END", 1: "AVAILABLE"})
        assert answer(server) == 2.0


def test_labels(base: pathlib.Path, half_plus: Models) -> None:
    publish(base / "1", half_plus(1.0))
    publish(base / "2", half_plus(2.0))
    label = 'version_labels {{ key: "{}" value: {} }}'.format
    both = "model_version_policy { specific { versions: 1 versions: 2 } }"
    unavailable = (
        "Request to assign label to version {} of model m, which is not currently available for "
        "inference"
    ).format
    with running(model_name="m", model_base_path=str(base)) as server:
        server.until("m", {2: "AVAILABLE"})
        with refused(FAILED, unavailable(1)):
            reload(server, one_model(base, label("stable", 1) + both))
        # Nothing of a config that is refused is taken over.
        assert server.states("m") == {2: "AVAILABLE"}
        reload(server, one_model(base, both))
        server.until("m", {2: "AVAILABLE", 1: "AVAILABLE"})
        reload(server, one_model(base, label("stable", 1) + label("canary", 2) + both))
        assert answer(server, label="stable") == 2.0
        assert answer(server, label="canary") == 3.0
        reload(server, one_model(base, label("stable", 2) + both))
        assert answer(server, label="stable") == 3.0
        with refused(INVALID, "Unrecognized servable version label: canary"):
            answer(server, label="canary")


def test_labels_before_their_versions(base: pathlib.Path, half_plus: Models) -> None:
    publish(base / "1", half_plus(1.0))
    label = 'version_labels {{ key: "{}" value: {} }}'.format
    with running(
        model_name="m",
        model_base_path=str(base),
        allow_version_labels_for_unavailable_models=True,
    ) as server:
        reload(server, one_model(base, label("next", 2)))
        with refused(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(m, 2)"):
            answer(server, label="next")
        # One that is in use does not move to what is not there.
        with refused(
            FAILED,
            "Request to assign label to version 3 of model m, which is not currently available "
            "for inference",
        ):
            reload(server, one_model(base, label("next", 3)))


def test_labels_in_a_first_config(
    base: pathlib.Path, half_plus: Models, tmp_path: pathlib.Path
) -> None:
    publish(base / "1", half_plus(1.0))
    file = tmp_path / "models.config"
    label = 'version_labels { key: "stable" value: 1 }'
    file.write_text(f"model_config_list {{ {one_model(base, label)} }}")
    # They are checked before anything is loaded, so they cannot be there without the flag.
    with (
        pytest.raises(ServingError, match="Request to assign label to version 1 of model m") as no,
        running(model_config_file=str(file)),
    ):
        pass
    assert no.value.code == Code.FAILED_PRECONDITION
    with running(
        model_config_file=str(file), allow_version_labels_for_unavailable_models=True
    ) as server:
        assert answer(server, label="stable") == 2.0


def names_of_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("versions-")}


@pytest.mark.slow
def test_models_without_versions_take_no_threads(base: pathlib.Path, half_plus: Models) -> None:
    publish(base / "1", half_plus(2.0))
    late = base.with_name("late")
    with running(model_name="m", model_base_path=str(base)) as server:
        core = server.server.core
        before = names_of_threads()
        absent = [one_model(base / "none", name=f"none_{number}") for number in range(3_000)]
        with pytest.raises(grpc.RpcError) as caught:
            reload(server, one_model(base), one_model(late, name="late"), *absent, timeout=3)
        error: Any = caught.value
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert core.serves("none_2999")
        assert names_of_threads() <= before
        assert answer(server) == 3.0
        # Its thread is there when there is something to load.
        late.mkdir()
        publish(late / "1", half_plus(3.0))
        until(lambda: 1 in core.statuses("late"))
        server.until("late", {1: "AVAILABLE"})
        reload(server, one_model(base))
        server.until("late", {1: "END"})
        until(lambda: not names_of_threads() - before)
        # Those that never had a version are forgotten.
        reload(server, one_model(base))
        assert core._models.keys() == {"m", "late"}
        assert server.states("m") == {1: "AVAILABLE"}
