"""Requests that come with a version and are run before it is available."""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tensorflow_serving.apis import prediction_log_pb2, regression_pb2

from serving.errors import Code, ServingError
from serving.model_server.calls.predict import run_predict
from serving.model_server.servables.servable import Servable, SessionSettings, load_servable
from serving.model_server.warmup import warm_up
from serving.tensors import MOST_FILLED
from tests.support.half_plus import CLASSIFY, REGRESS
from tests.support.model_server import publish, running
from tests.support.requests import (
    classification,
    predict_log,
    predict_request,
    regression,
    tasks,
    write_requests,
)

pytestmark = pytest.mark.slow

Log = prediction_log_pb2.PredictionLog
Models = Callable[..., pathlib.Path]


@pytest.fixture
def version(tmp_path: pathlib.Path, half_plus: Models) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(half_plus(2.0, "tf2"), tmp_path / "version"))


@pytest.fixture
def loaded(version: pathlib.Path) -> Any:
    servable = load_servable(version, SessionSettings())
    yield servable
    servable.close()


class Counting:
    """A servable that notes what ran on it."""

    def __init__(self, servable: Servable) -> None:
        self.servable = servable
        self.fetched: list[list[str]] = []

    @property
    def signatures(self) -> Any:
        return self.servable.signatures

    def run(self, feeds: Any, fetches: Any, timeout: float | None = None) -> Any:
        self.fetched.append(list(fetches))
        return self.servable.run(feeds, fetches, timeout)

    def close(self) -> None:
        self.servable.close()


def test_every_kind_of_request_is_run(tmp_path: pathlib.Path, half_plus: Models) -> None:
    version = pathlib.Path(shutil.copytree(half_plus(2.0), tmp_path / "version"))
    predicts, classifies, regresses, several, empty = Log(), Log(), Log(), Log(), Log()
    predicts.predict_log.request.CopyFrom(predict_request("any", {"x": np.array([1], np.float32)}))
    classifies.classify_log.request.CopyFrom(classification("any", "classify", [1.0]))
    regresses.regress_log.request.CopyFrom(regression("any", "regress", [1.0]))
    several.multi_inference_log.request.CopyFrom(
        tasks(("classify", CLASSIFY), ("regress", REGRESS))
    )
    write_requests(version, predicts, classifies, regresses, several, empty)
    counting = Counting(load_servable(version, SessionSettings()))
    try:
        assert warm_up(counting, version) == 5
    finally:
        counting.close()
    assert counting.fetched == [["y:0"], ["scores:0"], ["scores:0"], ["scores:0"]]


def test_a_tensor_of_one_value_may_claim_more_than_in_a_call(
    tmp_path: pathlib.Path, half_plus: Models
) -> None:
    """32 images of 224 pixels are 19 MB, which a version's file has as one value."""
    version = pathlib.Path(shutil.copytree(half_plus(2.0), tmp_path / "version"))
    log = Log()
    log.predict_log.request.CopyFrom(predict_request("any", {"x": np.zeros(1, np.float32)}))
    (size,) = log.predict_log.request.inputs["x"].tensor_shape.dim
    size.size = MOST_FILLED // 4 + 2
    write_requests(version, log)
    servable = load_servable(version, SessionSettings())
    try:
        assert warm_up(servable, version) == 1
        with pytest.raises(ServingError, match="1 of 4194306 values were sent"):
            run_predict(servable, log.predict_log.request)
    finally:
        servable.close()


def test_a_thousand_requests_and_no_more(loaded: Servable, version: pathlib.Path) -> None:
    path = write_requests(version, *[predict_log()] * 1000)
    assert warm_up(loaded, version) == 1000
    write_requests(version, *[predict_log()] * 1001)
    with pytest.raises(ServingError) as caught:
        warm_up(loaded, version)
    assert str(caught.value) == (
        f"INVALID_ARGUMENT: Number of warmup records exceeds the maximum (1000) at {path}"
    )


def test_records_that_are_no_requests(loaded: Servable, version: pathlib.Path) -> None:
    session_run = Log()
    session_run.session_run_log.request.feed.add()
    write_requests(version, session_run)
    with pytest.raises(ServingError, match="Unsupported log_type for warmup: 5") as caught:
        warm_up(loaded, version)
    assert caught.value.code == Code.UNIMPLEMENTED
    write_requests(version, b"\xff\xff")
    with pytest.raises(ServingError, match="Failed to parse warmup record: "):
        warm_up(loaded, version)
    path = write_requests(version, predict_log())
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ServingError, match=r"verify your warmup data is in TFRecord format\.$"):
        warm_up(loaded, version)


@pytest.fixture
def base(tmp_path: pathlib.Path, half_plus: Models) -> pathlib.Path:
    path = tmp_path / "m"
    path.mkdir()
    publish(path / "1", half_plus(1.0))
    return path


def test_a_version_is_available_after_its_requests(
    base: pathlib.Path, version: pathlib.Path
) -> None:
    write_requests(version, predict_log(seconds=1.5))
    with running(model_name="m", model_base_path=str(base)) as server:
        publish(base / "2", version)
        server.until("m", {2: "LOADING", 1: "AVAILABLE"}, 2)
        assert server.predict("m", {"x": np.array([2.0], np.float32)})["y"] == [2.0]
        server.until("m", {2: "AVAILABLE", 1: "END"})


def test_a_failing_request_fails_the_load(base: pathlib.Path, version: pathlib.Path) -> None:
    failing = Log()
    failing.regress_log.request.CopyFrom(regression_pb2.RegressionRequest())
    write_requests(version, predict_log(), failing)
    with running(model_name="m", model_base_path=str(base)) as server:
        publish(base / "2", version)
        server.until("m", {2: "END", 1: "AVAILABLE"})
        status = server.status("m").model_version_status[0].status
        assert (status.error_code, status.error_message) == (3, "Expected one output Tensor.")
        assert server.predict("m", {"x": np.array([2.0], np.float32)})["y"] == [2.0]
    with running(model_name="m", model_base_path=str(base), enable_model_warmup=False) as server:
        assert server.states("m") == {2: "AVAILABLE"}
