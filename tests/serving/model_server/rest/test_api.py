"""The REST API over sockets: status, metadata, predict, classify and regress."""

import base64
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.support.model_server import Running
from tests.support.requests import images
from tests.support.rest_calls import call, post, refused

STYLES = ["tf1", "tf2"]
HALF_PLUS_TWO = {"instances": [1.0, 2, 5.0]}


@pytest.mark.parametrize(
    "path", ["/v1/models/tf1", "/v1/models/tf1/versions/1", "/v1/models/tf1/labels/stable"]
)
def test_predict_by_rows(served: Running, path: str) -> None:
    assert post(served.rest_port, f"{path}:predict", HALF_PLUS_TWO) == {
        "predictions": [2.5, 3.0, 4.5]
    }


def test_the_reply_is_laid_out_as_in_the_documentation(served: Running) -> None:
    reply = call(served.rest_port, "POST", "/v1/models/tf1:predict", HALF_PLUS_TWO)
    assert reply.text == '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'


def test_rows_of_named_outputs(served: Running) -> None:
    for body in (HALF_PLUS_TWO, {"instances": [{"x": 1}, {"x": 2}, {"x": 5}]}):
        assert post(served.rest_port, "/v1/models/tf2:predict", body) == {
            "predictions": [
                {"y": 2.5, "twice": 5.0},
                {"y": 3.0, "twice": 6.0},
                {"y": 4.5, "twice": 9.0},
            ]
        }


def test_predict_by_columns(served: Running) -> None:
    for inputs in ([1.0, 2.0], {"x": [1.0, 2.0]}, {"x": [1.0, 2.0], "unused": "?"}):
        body = {"inputs": inputs, "signature_name": "serving_default"}
        assert post(served.rest_port, "/v1/models/tf1:predict", body) == {"outputs": [2.5, 3.0]}
        assert post(served.rest_port, "/v1/models/tf2:predict", body) == {
            "outputs": {"y": [2.5, 3.0], "twice": [5.0, 6.0]}
        }


def test_numbers_that_no_float_is(served: Running) -> None:
    body = '{"instances": [1e39, -1e39, 16777217]}'
    reply = call(served.rest_port, "POST", "/v1/models/tf1:predict", body)
    assert (reply.status, reply.text) == (
        200,
        '{\n    "predictions": [Infinity, -Infinity, 8.38861e+06\n    ]\n}',
    )
    examples = '{"signature_name": "regress", "examples": [{"x": 1e39}, {"x": -1e39}]}'
    reply = call(served.rest_port, "POST", "/v1/models/tf1:regress", examples)
    assert (reply.status, reply.text) == (200, '{\n    "results": [Infinity, -Infinity]\n}')


def test_several_inputs(served: Running) -> None:
    path = "/v1/models/tf2:predict"
    rows = [{"x": 2.0, "seconds": 0}, {"seconds": 0, "x": 4.0}]
    body: dict[str, Any] = {"signature_name": "slow", "instances": rows}
    assert post(served.rest_port, path, body) == {"predictions": [3.0, 4.0]}
    body = {"signature_name": "slow", "inputs": {"x": [2.0], "seconds": [0]}}
    assert post(served.rest_port, path, body) == {"outputs": [3.0]}


def test_what_is_no_number_in_json(served: Running) -> None:
    body = '{"instances": [NaN, Infinity, -Infinity, 1]}'
    reply = call(served.rest_port, "POST", "/v1/models/tf1:predict", body)
    assert (reply.status, reply.text) == (
        200,
        '{\n    "predictions": [NaN, Infinity, -Infinity, 2.5\n    ]\n}',
    )


@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_images_give_what_grpc_gives(served: Running, form: str) -> None:
    batch = images(2)
    body = {"signature_name": "logits", form: batch.tolist()}
    reply = post(served.rest_port, "/v1/models/cait:predict", body)
    (values,) = reply.values()
    expected = served.predict("cait", {"images": batch}, "logits")["logits"]
    # Every digit that float32 has comes over.
    assert np.array_equal(np.array(values, np.float32), expected)


def test_attention_of_a_block(served: Running) -> None:
    batch = images(2)
    rows = [{"images": image.tolist(), "block": block} for block, image in enumerate(batch)]
    body = {"signature_name": "self_attention", "instances": rows}
    reply = post(served.rest_port, "/v1/models/cait:predict", body)
    inputs = {"images": batch, "block": np.array([0, 1], np.int32)}
    expected = served.predict("cait", inputs, "self_attention")["attention"]
    assert np.array_equal(np.array(reply["predictions"], np.float32), expected)


@pytest.mark.parametrize("form", ["instances", "inputs", "named"])
def test_encoded_images(served: Running, form: str) -> None:
    data = tf.io.encode_jpeg(np.full((40, 30, 3), 99, np.uint8)).numpy()
    text: dict[str, str] = {"b64": base64.b64encode(data).decode()}
    body: Any = {
        "instances": {"instances": [text, text]},
        "inputs": {"inputs": {"image_bytes": [text, text]}},
        "named": {"instances": [{"image_bytes": text}, {"image_bytes": text}]},
    }[form]
    body = {**body, "signature_name": "bytes_logits"}
    reply = post(served.rest_port, "/v1/models/cait:predict", body)
    if form == "inputs":
        logits = reply["outputs"]["logits"]
    else:
        logits = [row["logits"] for row in reply["predictions"]]
    expected = served.predict(
        "cait", {"image_bytes": np.array([data, data], object)}, "bytes_logits"
    )
    assert np.array_equal(np.array(logits, np.float32), expected["logits"])


@pytest.mark.parametrize("style", STYLES)
def test_regress(served: Running, style: str) -> None:
    examples = [{"x": 1.0}, {"x": [2.0]}, {"x": [5.25]}]
    body = {"signature_name": "regress", "examples": examples}
    reply = call(served.rest_port, "POST", f"/v1/models/{style}:regress", body)
    assert reply.text == '{\n    "results": [2.5, 3.0, 4.625]\n}'


def test_classify(served: Running) -> None:
    body = {"signature_name": "classify", "examples": [{"x": 1.0}, {"x": 2.0}]}
    assert post(served.rest_port, "/v1/models/tf2:classify", body) == {
        "results": [[["small", -2.5], ["large", 2.5]], [["small", -3.0], ["large", 3.0]]]
    }
    # Without labels there are empty ones, as in the message of gRPC.
    assert post(served.rest_port, "/v1/models/tf1:classify", body) == {
        "results": [[["", 2.5]], [["", 3.0]]]
    }


def test_a_context_goes_before_each_example(served: Running) -> None:
    body = {
        "signature_name": "regress",
        "context": {"x2": 2.0},
        "examples": [{"x": 1.0}, {"x": 2.0}],
    }
    assert post(served.rest_port, "/v1/models/tf1:regress", body) == {"results": [3.5, 4.0]}


def test_classify_a_photo(served: Running) -> None:
    data = tf.io.encode_jpeg(np.full((40, 30, 3), 99, np.uint8)).numpy()
    example = {"image/encoded": {"b64": base64.b64encode(data).decode()}}
    body = {"signature_name": "classify", "examples": [example]}
    (classes,) = post(served.rest_port, "/v1/models/cait:classify", body)["results"]
    scores = [score for _, score in classes]
    assert len(classes) == 5
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("path", ["", "/versions/1", "/labels/stable"])
def test_status(served: Running, path: str) -> None:
    reply = call(served.rest_port, "GET", f"/v1/models/tf1{path}")
    assert (reply.status, reply.json) == (
        200,
        {
            "model_version_status": [
                {
                    "version": "1",
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
            ]
        },
    )


@pytest.mark.parametrize("path", ["", "/versions/1", "/labels/stable"])
def test_metadata(served: Running, path: str) -> None:
    reply = call(served.rest_port, "GET", f"/v1/models/tf1{path}/metadata")
    assert reply.status == 200
    assert reply.json["model_spec"] == {"name": "tf1", "signature_name": "", "version": "1"}
    signatures = reply.json["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "classify", "regress"}
    default = signatures["serving_default"]
    assert default["method_name"] == "tensorflow/serving/predict"
    assert default["inputs"]["x"]["name"] == "x:0"
    assert default["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in default["inputs"]["x"]["tensor_shape"]["dim"]] == ["-1"]


PREDICT = "/v1/models/tf1:predict"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (
            "/v1/models/none:predict",
            HALF_PLUS_TWO,
            404,
            "Servable not found for request: Latest(none)",
        ),
        (
            "/v1/models/tf1/versions/7:predict",
            HALF_PLUS_TWO,
            404,
            "Servable not found for request: Specific(tf1, 7)",
        ),
        (
            "/v1/models/tf1/labels/x:predict",
            HALF_PLUS_TWO,
            400,
            "Unrecognized servable version label: x",
        ),
        (
            PREDICT,
            {**HALF_PLUS_TWO, "signature_name": "x"},
            400,
            'Serving signature name: "x" not found in signature def',
        ),
        (
            "/v1/models/tf1:classify",
            {"signature_name": "x", "examples": [{"x": 1.0}]},
            400,
            "No signature was found with the name: x",
        ),
    ],
)
def test_refusals(served: Running, path: str, body: Any, status: int, message: str) -> None:
    refused(call(served.rest_port, "POST", path, body), status, message)


@pytest.mark.parametrize(
    ("what", "noun"), [("classify", "classification"), ("regress", "regression")]
)
def test_signatures_of_other_calls(served: Running, what: str, noun: str) -> None:
    reply = call(served.rest_port, "POST", f"/v1/models/tf1:{what}", {"examples": [{"x": 1.0}]})
    assert reply.status == 400
    text = reply.json["error"]
    assert text.startswith(f"No {noun} inputs found in SignatureDef: goo.gle/debugonly ")
    assert 'name: "x:0"' in text


def test_long_messages_are_whole(served: Running) -> None:
    body = {**HALF_PLUS_TWO, "signature_name": "n" * 2000}
    message = f'Serving signature name: "{"n" * 2000}" not found in signature def'
    refused(call(served.rest_port, "POST", PREDICT, body), 400, message)


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/none", 404, "Could not find any versions of model none"),
        ("/v1/models/tf1/versions/7", 404, "Could not find version 7 of model tf1"),
        ("/v1/models/none/metadata", 404, "Servable not found for request: Latest(none)"),
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/models/metadata", 404, "Could not find any versions of model metadata"),
        ("/v1/models/t%66%31/versions/7", 404, "Could not find version 7 of model tf1"),
    ],
)
def test_refusals_of_status(served: Running, path: str, status: int, message: str) -> None:
    refused(call(served.rest_port, "GET", path), status, message)
