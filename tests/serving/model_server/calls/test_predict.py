"""Predict over a socket: what is answered, and TF Serving's codes and messages when it is not."""

import pathlib
import shutil
import threading
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.errors import Code, ServingError
from serving.model_server.calls.predict import predict
from serving.model_server.grpc_server import GrpcServer
from tests.support.model_server import Running, refused, running
from tests.support.requests import images, predict_request

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
X = {"x": np.array([1.0, 2.0, 5.0], np.float32)}


@pytest.mark.parametrize("model", ["tf1", "tf2"])
def test_both_styles_are_served(served: Running, model: str) -> None:
    reply = served.predict(model, X)
    np.testing.assert_allclose(reply["y"], [2.5, 3.0, 4.5])


def test_the_reply_names_what_answered(served: Running) -> None:
    response = served.predictions.Predict(predict_request("tf2", X), 30)
    assert response.model_spec.name == "tf2"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"


def test_values_come_in_the_typed_field(served: Running) -> None:
    response = served.predictions.Predict(predict_request("tf1", X), 30)
    assert list(response.outputs["y"].float_val) == [2.5, 3.0, 4.5]
    assert not response.outputs["y"].tensor_content


def test_values_are_read_from_the_typed_field(served: Running) -> None:
    request = predict_request("tf1", {})
    request.inputs["x"].dtype = tf.float32.as_datatype_enum
    request.inputs["x"].tensor_shape.dim.add(size=4)
    # The last of too few values is repeated.
    request.inputs["x"].float_val.extend([2.0, 4.0])
    reply = served.predictions.Predict(request, 30)
    assert list(reply.outputs["y"].float_val) == [3.0, 4.0, 4.0, 4.0]


def test_a_tensor_without_content_is_zeros(served: Running) -> None:
    request = predict_request("tf1", {})
    request.inputs["x"].dtype = tf.float32.as_datatype_enum
    request.inputs["x"].tensor_shape.dim.add(size=2)
    assert list(served.predictions.Predict(request, 30).outputs["y"].float_val) == [2.0, 2.0]


@pytest.mark.parametrize("model", ["tf1", "tf2"])
def test_a_batch_of_none_is_answered_with_none(served: Running, model: str) -> None:
    assert served.predict(model, {"x": np.zeros(0, np.float32)})["y"].shape == (0,)


def test_a_filter_limits_the_reply(served: Running) -> None:
    request = predict_request("tf2", X)
    assert set(served.predictions.Predict(request, 30).outputs) == {"y", "twice"}
    request.output_filter.append("twice")
    outputs = served.predictions.Predict(request, 30).outputs
    assert set(outputs) == {"twice"}
    assert list(outputs["twice"].float_val) == [5.0, 6.0, 9.0]


def test_a_version_and_a_label_can_be_asked_for(served: Running) -> None:
    for spec in ({"version": 1}, {"label": "stable"}):
        np.testing.assert_allclose(served.predict("tf1", X, **spec)["y"], [2.5, 3.0, 4.5])


@pytest.mark.slow
def test_cait_answers_as_its_session_does(
    served: Running, tiny_served: dict[Any, Callable[..., Any]]
) -> None:
    call = tiny_served["classifier"]
    batch = images(3)
    blocks = np.array([0, 1, 1], np.int32)
    for signature, inputs in {
        "": {"images": batch},
        "logits": {"images": batch},
        "class_attention": {"images": batch},
        "self_attention": {"images": batch, "block": blocks},
    }.items():
        reply = served.predict("cait", inputs, signature)
        wanted = call(signature or "serving_default", **inputs)
        assert set(reply) == set(wanted)
        for key, value in wanted.items():
            np.testing.assert_allclose(reply[key], value, rtol=1e-5, atol=1e-6)


# The table of what can be wrong with a request. FACTS.md of the project has it from a real server.


def test_no_model(served: Running) -> None:
    with refused(INVALID, "Missing ModelSpec"):
        served.predictions.Predict(predict_pb2.PredictRequest(), 30)
    with refused(INVALID, "ModelSpec has no name specified."):
        served.predict("", X)


def test_unknown_model_version_and_label(served: Running) -> None:
    with refused(NOT_FOUND, "Servable not found for request: Latest(nobody)"):
        served.predict("nobody", X)
    with refused(NOT_FOUND, "Servable not found for request: Specific(nobody, 7)"):
        served.predict("nobody", X, version=7)
    with refused(NOT_FOUND, "Servable not found for request: Specific(tf1, 7)"):
        served.predict("tf1", X, version=7)
    for model in ("tf1", "nobody"):
        with refused(INVALID, "Unrecognized servable version label: x"):
            served.predict(model, X, label="x")
    with refused(NOT_FOUND, "Servable not found for request: Specific(tf1, 9)"):
        served.predict("tf1", X, label="gone")


def test_unknown_signature(served: Running) -> None:
    with refused(grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "nothing" not found.'):
        served.predict("tf1", X, "nothing")


def test_missing_extra_and_misnamed_inputs(served: Running) -> None:
    with refused(
        INVALID,
        "input size does not match signature: 0!=1 len({}) != len({images}). Sent extra: {}. "
        "Missing but required: {images}.",
    ):
        served.predict("cait", {}, "logits")
    with refused(
        INVALID,
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. "
        "Missing but required: {}.",
    ):
        served.predict("tf1", {**X, "z": 1.0})
    with refused(
        INVALID,
        "Signature input alias: x(feed name: x:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {z}, or default input alias set: ",
    ):
        served.predict("tf1", {"z": X["x"]})


def test_defaults_of_a_signature(
    half_plus: Callable[..., pathlib.Path], tmp_path: pathlib.Path
) -> None:
    version = pathlib.Path(shutil.copytree(half_plus(2.0), tmp_path / "m" / "1"))
    graph = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    signature = graph.meta_graphs[0].signature_def["serving_default"]
    signature.defaults["x"].CopyFrom(tf.make_tensor_proto(np.array([8.0], np.float32)))
    (version / "saved_model.pb").write_bytes(graph.SerializeToString())
    with running(model_name="m", model_base_path=str(tmp_path / "m")) as server:
        assert server.predict("m", {})["y"] == [6.0]
        np.testing.assert_allclose(server.predict("m", X)["y"], [2.5, 3.0, 4.5])
        with refused(
            INVALID,
            "Inputs contains invalid name. Used request inputs: , request input: z",
        ):
            server.predict("m", {"z": X["x"]})


def test_wrong_dtype(served: Running) -> None:
    with refused(INVALID, "Expects arg[0] to be float but uint8 is provided"):
        served.predict("cait", {"images": np.zeros((1, 32, 32, 3), np.uint8)}, "logits")


def test_unknown_and_repeated_filters(served: Running) -> None:
    request = predict_request("tf2", X)
    request.output_filter.append("x")
    with refused(
        INVALID,
        "output tensor alias not found in signature: x Outputs expected to be in the set "
        "{twice,y}.",
    ):
        served.predictions.Predict(request, 30)
    request.output_filter[:] = ["y", "y"]
    with refused(INVALID, "duplicate output tensor alias: y"):
        served.predictions.Predict(request, 30)


def test_the_inputs_are_looked_at_before_the_filter(served: Running) -> None:
    request = predict_request("tf1", {"x": np.array([1], np.float32)})
    request.inputs["x"].tensor_content = b"abc"
    request.output_filter.append("unknown")
    with refused(INVALID, "tensor parsing error: x"):
        served.predictions.Predict(request, 30)


def test_a_wrong_shape_is_refused_by_the_graph(served: Running) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.predict("cait", {"images": images(1, 20)}, "logits")
    error: Any = caught.value
    assert error.code() == INVALID
    assert "[1,20,20,3] is not compatible with expected shape [?,32,32,3]" in error.details()
    assert "Traceback" not in error.details()


def test_long_messages_are_cut(served: Running) -> None:
    name = "n" * 2000
    wanted = f'Serving signature key "{name}" not found.'[:1024] + "...TRUNCATED"
    with refused(grpc.StatusCode.FAILED_PRECONDITION, wanted):
        served.predict("tf1", X, name)


def test_a_deadline_ends_the_run(served: Running) -> None:
    slow = {"x": np.array([1], np.float32), "seconds": np.array([3], np.float32)}
    with pytest.raises(grpc.RpcError) as caught:
        served.predict("tf2", slow, "slow", timeout=0.3)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    served.predict("tf2", {**slow, "seconds": np.array([0], np.float32)}, "slow")


def test_a_deadline_inside_the_server(served: Running) -> None:
    # A client of gRPC ends its call itself when the deadline is over and does not see this.
    slow = {"x": np.array([1], np.float32), "seconds": np.array([3], np.float32)}
    with pytest.raises(ServingError) as caught:
        predict(served.server.core, predict_request("tf2", slow, "slow"), 0.2)
    assert str(caught.value) == "DEADLINE_EXCEEDED: Timed out waiting for notification"


# Status and metadata.


def test_metadata_has_the_signatures(served: Running) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "tf2"
    response = served.predictions.GetModelMetadata(request, 30)
    assert response.model_spec.name == "tf2"
    assert response.model_spec.version.value == 1
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "classify", "regress"} <= set(signatures.signature_def)
    assert list(signatures.signature_def["serving_default"].inputs) == ["x"]


def test_metadata_that_is_not_there(served: Running) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    with refused(INVALID, "Missing ModelSpec"):
        served.predictions.GetModelMetadata(request, 30)
    request.model_spec.name = "tf2"
    with refused(INVALID, "GetModelMetadataRequest must specify at least one metadata_field"):
        served.predictions.GetModelMetadata(request, 30)
    request.metadata_field.append("x")
    with refused(INVALID, "Metadata field x is not supported"):
        served.predictions.GetModelMetadata(request, 30)
    request.metadata_field[:] = ["signature_def"]
    request.model_spec.name = "nobody"
    with refused(NOT_FOUND, "Servable not found for request: Latest(nobody)"):
        served.predictions.GetModelMetadata(request, 30)


def test_status(served: Running) -> None:
    assert served.states("tf1") == {1: "AVAILABLE"}
    request = get_model_status_pb2.GetModelStatusRequest()
    with refused(INVALID, "Missing ModelSpec"):
        served.models.GetModelStatus(request, 30)
    request.model_spec.name = "tf1"
    request.model_spec.version.value = 7
    with refused(NOT_FOUND, "Could not find version 7 of model tf1"):
        served.models.GetModelStatus(request, 30)
    request.model_spec.version.value = 1
    (entry,) = served.models.GetModelStatus(request, 30).model_version_status
    assert (entry.version, entry.status.error_code) == (1, 0)
    with refused(NOT_FOUND, "Could not find any versions of model nobody"):
        served.status("nobody")


def test_an_observer_is_told_of_every_call(served: Running) -> None:
    seen: list[tuple[str, str, Code, bool]] = []
    lock = threading.Lock()

    def observe(call: str, request: Any, code: Code, seconds: float) -> None:
        with lock:
            name = request.model_spec.name if request is not None else ""
            seen.append((call, name, code, 0 < seconds < 60))

    server = GrpcServer(served.server.core, 2, observer=observe)
    port = server.listen("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(predict_request("tf1", X), 30)
        with pytest.raises(grpc.RpcError):
            stub.Predict(predict_request("tf1", X, "nothing"), 30)
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/tensorflow.serving.PredictionService/Regress")(b"x", timeout=30)
    assert server.stop(5)
    assert seen == [
        ("Predict", "tf1", Code.OK, True),
        ("Predict", "tf1", Code.FAILED_PRECONDITION, True),
        ("Regress", "", Code.INTERNAL, True),
    ]
