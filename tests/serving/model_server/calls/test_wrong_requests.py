"""What no client should send: refused with the right code, and the next request is answered."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from serving.errors import ServingError
from serving.model_server.calls.predict import run_predict
from serving.model_server.servables.checked import MOST_STRINGS
from tests.support.model_server import Running, publish, refused, running
from tests.support.requests import (
    claimed,
    classification,
    images,
    jpeg,
    predict_request,
    regression,
    scan_bomb,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PREDICT = "/tensorflow.serving.PredictionService/Predict"


@pytest.fixture(scope="module")
def batched(
    half_plus: Callable[..., pathlib.Path],
    tiny_models: dict[Any, pathlib.Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """A server that joins requests."""
    root = tmp_path_factory.mktemp("batched")
    config = "model_config_list {"
    for name, source in {"tf1": half_plus(2.0), "cait": tiny_models["classifier"]}.items():
        (root / name).mkdir()
        publish(root / name / "1", source)
        config += f' config {{ name: "{name}" base_path: "{root / name}" '
        config += 'model_platform: "tensorflow" }'
    (root / "models.config").write_text(config + "}")
    (root / "batching.txt").write_text(
        "max_batch_size { value: 16 } batch_timeout_micros { value: 1000 } "
        "allowed_batch_sizes: [1, 4, 16]"
    )
    with running(
        model_config_file=str(root / "models.config"),
        enable_batching=True,
        batching_parameters_file=str(root / "batching.txt"),
    ) as server:
        yield server


@pytest.fixture(params=["served", "batched"])
def server(request: pytest.FixtureRequest) -> Running:
    server: Running = request.getfixturevalue(request.param)
    return server


@pytest.fixture(autouse=True)
def _still_answers(server: Running) -> Iterator[None]:
    yield
    assert list(server.predict("tf1", {"x": np.array([2], np.float32)})["y"]) == [3.0]
    assert server.predict("cait", {"images": images(1)}, "logits")["logits"].shape == (1, 10)


def bytes_logits(server: Running, *encoded: bytes) -> Any:
    return server.predict("cait", {"image_bytes": np.array(encoded, object)}, "bytes_logits")


@pytest.mark.parametrize("length", [1, 40, -1])
def test_truncated_message(server: Running, length: int) -> None:
    whole = predict_request("tf1", {"x": np.arange(9, dtype=np.float32)}).SerializeToString()
    call = server.channel.unary_unary(PREDICT)
    assert predict_pb2.PredictResponse.FromString(call(whole, timeout=30)).outputs["y"].float_val
    with pytest.raises(grpc.RpcError) as caught:
        call(whole[:length], timeout=30)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.INTERNAL


def test_no_message_at_all(server: Running) -> None:
    with refused(INVALID, "Missing ModelSpec"):
        server.channel.unary_unary(PREDICT)(b"", timeout=30)


def test_unknown_method(server: Running) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.channel.unary_unary("/tensorflow.serving.PredictionService/Forget")(b"", timeout=30)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("change", ["content", "negative", "overflow", "huge", "dtype"])
def test_what_is_no_tensor(server: Running, change: str) -> None:
    request = predict_request("tf1", {"x": np.arange(9, dtype=np.float32)})
    tensor = request.inputs["x"]
    dims = tensor.tensor_shape.dim
    if change == "content":
        tensor.tensor_content = tensor.tensor_content[:-1]
    elif change == "negative":
        dims[0].size = -1
    elif change == "overflow":
        dims[0].size = 2**62
        dims.add(size=2**62)
    elif change == "huge":
        # Zeros that no memory holds.
        tensor.tensor_content = b""
        dims[0].size = 2**40
    else:
        tensor.dtype = 0
    with refused(INVALID, "tensor parsing error: x"):
        server.predictions.Predict(request, 30)


@pytest.mark.parametrize(
    ("model", "signature", "alias", "value"),
    [("cait", "bytes_logits", "image_bytes", b"x"), ("tf1", "", "x", np.float32(2))],
)
@pytest.mark.slow
def test_more_dimensions_than_tensorflow_survives(
    server: Running, model: str, signature: str, alias: str, value: Any
) -> None:
    """An array of strings with 33 dimensions ends the process in TensorFlow's library."""
    request = predict_request(model, {alias: np.array(value)}, signature)
    dims = request.inputs[alias].tensor_shape.dim
    for _ in range(33):
        dims.add(size=1)
    with refused(INVALID, f"tensor parsing error: {alias}: 33 dimensions; expected 32 at most"):
        server.predictions.Predict(request, 30)
    del dims[-1]
    # With as many as are taken, the model decides.
    error: Any = server.predictions.Predict.future(request, 30).exception()
    assert error is None or "tensor parsing error" not in error.details()


def test_a_size_that_is_claimed_and_not_sent(server: Running) -> None:
    """Sixty bytes took gigabytes, and a thread for longer than the call had."""
    text = predict_request("cait", {"image_bytes": np.array([b"x"], object)}, "bytes_logits")
    text.inputs["image_bytes"].tensor_shape.dim[0].size = 20_000_000
    zeros = predict_request("cait", {"images": np.zeros((1, 0), np.float32)}, "logits")
    del zeros.inputs["images"].tensor_shape.dim[:]
    for size in (50_000, 32, 32, 3):
        zeros.inputs["images"].tensor_shape.dim.add(size=size)
    for request, alias, what in (
        (text, "image_bytes", "1 of 20000000 values were sent and the others take 159999992"),
        (zeros, "images", "0 of 153600000 values were sent and the others take 614400000"),
    ):
        message = f"tensor parsing error: {alias}: {what} bytes; expected 16777216 at most"
        with refused(INVALID, message):
            server.predictions.Predict(request, 30)


@pytest.mark.slow
def test_more_strings_than_are_taken(served: Running) -> None:
    request = predict_request("cait", {"image_bytes": np.array([b""], object)}, "bytes_logits")
    request.inputs["image_bytes"].tensor_shape.dim[0].size = MOST_STRINGS + 1
    message = f": {MOST_STRINGS + 1} strings; expected {MOST_STRINGS} at most"
    calls = [
        (served.predictions.Predict, request),
        (served.predictions.Classify, classification("tf2", "classify", [2] * (MOST_STRINGS + 1))),
        (served.predictions.Regress, regression("tf2", "regress", [2] * (MOST_STRINGS + 1))),
    ]
    for method, sent in calls:
        error: Any = method.future(sent, 60).exception()
        assert error.code() == INVALID
        assert error.details().endswith(message)


@pytest.mark.parametrize("content", [b"\x05abc", b"\x03abcd", b"\xff\xff\xff\xff\xff\xff", b"\x80"])
def test_strings_that_do_not_fit_their_lengths(server: Running, content: bytes) -> None:
    request = predict_request("cait", {"image_bytes": np.array([b"x"], object)}, "bytes_logits")
    tensor = request.inputs["image_bytes"]
    del tensor.string_val[:]
    tensor.tensor_content = content
    with refused(INVALID, "tensor parsing error: image_bytes"):
        server.predictions.Predict(request, 30)


def test_an_undecodable_image_among_good_ones(server: Running) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        bytes_logits(server, jpeg(), b"no image", jpeg())
    error: Any = caught.value
    assert error.code() == INVALID
    assert "Unknown image file format" in error.details()
    assert bytes_logits(server, jpeg(), jpeg())["logits"].shape == (2, 10)


def test_a_truncated_image(server: Running) -> None:
    data = jpeg(200)
    with pytest.raises(grpc.RpcError) as caught:
        bytes_logits(server, data[: len(data) // 2])
    error: Any = caught.value
    assert error.code() == INVALID


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_header_that_claims_too_much(server: Running, kind: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        bytes_logits(server, claimed(kind))
    error: Any = caught.value
    assert error.code() == INVALID
    assert "pixels" in error.details()


def test_an_image_of_too_many_scans_among_those_of_others(server: Running) -> None:
    bomb = scan_bomb(3000)
    message = (
        "a JPEG with more than 100 scans; expected 100 at most, since each takes as long as an "
        "image (save it as a baseline JPEG)"
    )
    with refused(INVALID, f"image_bytes: {message}"):
        bytes_logits(server, jpeg(), bomb)
    request = classification("cait", "classify", [2.0])
    example = request.input.example_list.examples[0]
    example.features.feature["image/encoded"].bytes_list.value.append(bomb)
    with refused(INVALID, f"inputs: {message}"):
        server.predictions.Classify(request, 30)
    serialised = np.array([example.SerializeToString()], object)
    with refused(INVALID, f"inputs: {message}"):
        server.predict("cait", {"inputs": serialised}, "classify")


def test_not_a_number_in_is_not_a_number_out(server: Running) -> None:
    batch = images(2)
    batch[0] = np.nan
    logits = server.predict("cait", {"images": batch}, "logits")["logits"]
    assert np.isnan(logits[0]).all()
    assert np.isfinite(logits[1]).all()


@pytest.mark.slow
def test_a_hundred_megabytes(server: Running) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        bytes_logits(server, b"\0" * 100_000_000)
    error: Any = caught.value
    assert error.code() == INVALID


def test_a_block_that_is_not_there(server: Running) -> None:
    with pytest.raises(grpc.RpcError, match="block must be 0 to 1"):
        server.predict(
            "cait", {"images": images(1), "block": np.array([2], np.int32)}, "self_attention"
        )


@pytest.mark.parametrize("server", ["batched"], indirect=True)
@pytest.mark.slow
def test_an_undecodable_image_among_those_of_others(
    tiny_models: dict[Any, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "cait").mkdir()
    publish(tmp_path / "cait" / "1", tiny_models["classifier"])
    # Three requests are one batch, and nothing is run before it is full.
    (tmp_path / "batching.txt").write_text(
        "max_batch_size { value: 3 } batch_timeout_micros { value: 3600000000 }"
    )
    with running(
        model_name="cait",
        model_base_path=str(tmp_path / "cait"),
        enable_model_warmup=False,
        enable_batching=True,
        batching_parameters_file=str(tmp_path / "batching.txt"),
    ) as server:
        for encoded in ([jpeg(), b"no image", jpeg()], [jpeg(), jpeg(), jpeg()]):
            calls = [
                server.predictions.Predict.future(
                    predict_request(
                        "cait", {"image_bytes": np.array([one], object)}, "bytes_logits"
                    ),
                    60,
                )
                for one in encoded
            ]
            errors = [call.exception() for call in calls]
            if b"no image" not in encoded:
                assert errors == [None] * 3
                continue
            # As in TF Serving, all of the batch fail: it is one run.
            for error in errors:
                assert error.code() == INVALID
                assert "Unknown image file format" in error.details()


class Huge:
    """A servable whose reply is larger than a message can be."""

    signatures = {"serving_default": meta_graph_pb2.SignatureDef()}  # noqa: RUF012
    signatures["serving_default"].outputs["y"].name = "y:0"

    def run(self, feeds: Any, fetches: Any, timeout: float | None = None) -> Any:
        return [np.broadcast_to(np.float32(0), (2**29,))]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("server", ["served"], indirect=True)
def test_a_reply_that_no_message_holds() -> None:
    with pytest.raises(ServingError) as caught:
        run_predict(Huge(), predict_request("any", {}))
    assert str(caught.value) == "INTERNAL: Failed to serialize message"
