"""Classify, Regress and MultiInference over a socket."""

from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    regression_pb2,
)

from tests.support.half_plus import CLASSIFY, REGRESS
from tests.support.model_server import Running, refused
from tests.support.requests import classification, example, regression, tasks

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def test_classify_with_labels_and_scores(served: Running) -> None:
    response = served.predictions.Classify(classification("tf2", "classify", [2.0, 4.0]), 30)
    assert [
        [(item.label, item.score) for item in row.classes]
        for row in response.result.classifications
    ] == [[("small", -3.0), ("large", 3.0)], [("small", -4.0), ("large", 4.0)]]
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "classify"


def test_classify_with_scores_alone(served: Running) -> None:
    response = served.predictions.Classify(classification("tf1", "classify", [2.0]), 30)
    (row,) = response.result.classifications
    assert [(item.label, item.score) for item in row.classes] == [("", 3.0)]


def test_cait_classifies_a_photo(served: Running) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "cait"
    request.model_spec.signature_name = "classify"
    photo = tf.io.encode_jpeg(np.full((40, 50, 3), 130, np.uint8)).numpy()
    added = request.input.example_list.examples.add()
    added.features.feature["image/encoded"].bytes_list.value.append(photo)
    (row,) = served.predictions.Classify(request, 30).result.classifications
    logits = served.predict("cait", {"image_bytes": np.array([photo], object)}, "bytes_logits")
    best = np.sort(logits["probabilities"][0])[::-1][: len(row.classes)]
    np.testing.assert_allclose([item.score for item in row.classes], best, rtol=1e-5)


@pytest.mark.parametrize("model", ["tf1", "tf2"])
def test_regress(served: Running, model: str) -> None:
    response = served.predictions.Regress(regression(model, "regress", [2.0, 6.0]), 30)
    assert [row.value for row in response.result.regressions] == [3.0, 5.0]
    assert response.model_spec.signature_name == "regress"


def test_a_context_is_part_of_every_example(served: Running) -> None:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "tf1"
    request.model_spec.signature_name = "regress"
    both = request.input.example_list_with_context
    both.context.CopyFrom(example(x2=10.0))
    both.examples.extend([example(x=2.0), example(x=4.0)])
    response = served.predictions.Regress(request, 30)
    assert [row.value for row in response.result.regressions] == [8.0, 9.0]


def test_multi_inference(served: Running) -> None:
    response = served.predictions.MultiInference(
        tasks(("classify", CLASSIFY), ("regress", REGRESS)), 30
    )
    first, second = response.results
    assert first.classification_result.classifications[0].classes[0].score == 3.0
    assert second.regression_result.regressions[0].value == 3.0
    assert [result.model_spec.signature_name for result in response.results] == [
        "classify",
        "regress",
    ]
    assert {result.model_spec.version.value for result in response.results} == {1}


def test_signatures_with_inputs_of_their_own_are_fed_the_same_examples(served: Running) -> None:
    response = served.predictions.MultiInference(
        tasks(("classify", CLASSIFY), ("regress", REGRESS), model="tf2"), 30
    )
    first, second = response.results
    (row,) = first.classification_result.classifications
    assert [item.score for item in row.classes] == [-3.0, 3.0]
    assert second.regression_result.regressions[0].value == 3.0


def test_what_is_wrong_with_a_classification(served: Running) -> None:
    classify = served.predictions.Classify
    with refused(INVALID, "Missing ModelSpec"):
        classify(classification_pb2.ClassificationRequest(), 30)
    with refused(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(nobody)"):
        classify(classification("nobody", "classify", [1.0]), 30)
    with refused(INVALID, "No signature was found with the name: x"):
        classify(classification("tf1", "x", [1.0]), 30)
    with refused(INVALID, "Input is empty."):
        classify(classification("tf1", "classify", []), 30)
    with refused(INVALID, "Expected one input Tensor."):
        classify(classification("cait", "self_attention", [1.0]), 30)
    with pytest.raises(grpc.RpcError) as caught:
        classify(classification("tf1", "", [1.0]), 30)
    error: Any = caught.value
    assert error.code() == INVALID
    assert error.details().startswith("No classification inputs found in SignatureDef: goo.gle/de")
    with pytest.raises(grpc.RpcError) as caught:
        classify(classification("tf1", "regress", [1.0]), 30)
    error = caught.value
    assert error.code() == INVALID
    assert error.details().startswith(
        "Expected classification signature outputs to contain at least one of "
        '"classes" or "scores". Signature was: goo.gle/debugonly '
    )
    wrong = classification("tf1", "classify", [1.0])
    wrong.input.example_list.examples.add().CopyFrom(example(other=1.0))
    with pytest.raises(grpc.RpcError) as caught:
        classify(wrong, 30)
    error = caught.value
    assert error.code() == INVALID
    assert "Feature: x (data type: float) is required but could not be found." in error.details()


def test_what_is_wrong_with_a_regression(served: Running) -> None:
    regress = served.predictions.Regress
    with refused(INVALID, "Missing ModelSpec"):
        regress(regression_pb2.RegressionRequest(), 30)
    with refused(INVALID, "No signature was found with the name: x"):
        regress(regression("tf1", "x", [1.0]), 30)
    with refused(INVALID, "Expected one output Tensor."):
        regress(regression("tf2", "classify", [1.0]), 30)
    for signature, missing in (("", "inputs"), ("classify", "outputs")):
        with pytest.raises(grpc.RpcError) as caught:
            regress(regression("tf1", signature, [1.0]), 30)
        error: Any = caught.value
        assert error.code() == INVALID
        assert error.details().startswith(
            f"No regression {missing} found in SignatureDef: goo.gle/debugonly "
        )


def test_what_is_wrong_with_several(served: Running) -> None:
    call = served.predictions.MultiInference
    with refused(INVALID, "ModelSpec has no name specified."):
        call(inference_pb2.MultiInferenceRequest(), 30)
    with refused(INVALID, "Duplicate evaluation of signature: regress"):
        call(tasks(("regress", REGRESS), ("regress", REGRESS)), 30)
    with refused(INVALID, "Requested signature not found in model graph: x"):
        call(tasks(("x", REGRESS)), 30)
    with refused(
        grpc.StatusCode.UNIMPLEMENTED,
        "Unsupported signature method_name: tensorflow/serving/predict",
    ):
        call(tasks(("regress", "tensorflow/serving/predict")), 30)
    with pytest.raises(grpc.RpcError) as caught:
        call(tasks(("regress", CLASSIFY)), 30)
    error: Any = caught.value
    assert error.code() == INVALID
    assert error.details().startswith("Expected classification signature outputs to contain ")
    other = tasks(("classify", CLASSIFY), ("regress", REGRESS))
    other.tasks[1].model_spec.name = "tf2"
    with refused(
        INVALID, "All ModelSpecs in a MultiInferenceRequest must access the same model name."
    ):
        call(other, 30)
