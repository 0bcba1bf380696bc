"""Reading a large request takes time of the call: the model gets what is left."""

import time
from typing import Any

import numpy as np
import pytest
from tensorflow.core.protobuf import meta_graph_pb2

from serving.model_server.calls import examples, multi_inference, predict
from serving.model_server.calls.classify import CLASSIFY
from serving.model_server.calls.time_left import time_left
from tests.support.requests import classification, predict_request, tasks


class Timed:
    """A servable that keeps the time that it is left."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []
        self.signatures = {"s": meta_graph_pb2.SignatureDef()}
        self.signatures["s"].inputs["inputs"].name = "inputs:0"
        self.signatures["s"].outputs["scores"].name = "scores:0"

    def run(self, feeds: Any, fetches: Any, timeout: float | None = None) -> Any:
        self.timeouts.append(timeout)
        return [np.zeros((1, 2), np.float32)]

    def close(self) -> None:
        pass


PREDICT = predict_request("m", {"inputs": np.array([b"x"], object)}, "s")
CLASSIFICATION = classification("m", "s", [2.0])
TASKS = tasks(("s", CLASSIFY.name))


@pytest.mark.parametrize(
    ("module", "reads", "run", "request_"),
    [
        (predict, "to_array", predict.run_predict, PREDICT),
        (examples, "serialised_examples", CLASSIFY.run, CLASSIFICATION),
        (multi_inference, "serialised_examples", multi_inference.run_multi_inference, TASKS),
    ],
)
def test_the_time_to_read_the_inputs_is_the_calls(
    module: Any, reads: str, run: Any, request_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = getattr(module, reads)

    def slowly(*inputs: Any) -> Any:
        time.sleep(0.2)
        return read(*inputs)

    monkeypatch.setattr(module, reads, slowly)
    servable = Timed()
    for timeout in (10.0, 0.1, None):
        run(servable, request_, timeout)
    first, late, none = servable.timeouts
    assert first is not None
    assert first <= 9.8
    # A session refuses to begin.
    assert late is not None
    assert late < 0
    assert none is None


def test_no_limit() -> None:
    assert time_left(None)() is None
