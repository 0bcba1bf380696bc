"""Warm-up: requests that come with a version, run before it is available.

Source: `saved_model_warmup.cc` and `saved_model_warmup_util.cc` of tensorflow/serving's servables.
"""

import pathlib

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from ..errors import Code, ServingError, invalid_argument
from .calls.classify import run_classify
from .calls.multi_inference import run_multi_inference
from .calls.predict import run_predict
from .calls.regress import run_regress
from .servables.servable import Servable

REQUESTS = pathlib.PurePosixPath("assets.extra/tf_serving_warmup_requests")
"""The file inside a version: a TFRecord of `PredictionLog`."""

MOST_RECORDS = 1000


def warm_up(servable: Servable, directory: pathlib.Path) -> int:
    """Runs the requests that came with a version.

    Args:
        servable: the version, loaded; with batching in front of it if it is to be batched.
        directory: the version's.

    Returns:
        How many there were; 0 without a file.

    Raises:
        ServingError: the first failure: of a request, of the file, or too many records.
    """
    path = directory / REQUESTS
    if not path.is_file():
        return 0
    count = 0
    try:
        for record in tf.compat.v1.python_io.tf_record_iterator(str(path)):
            try:
                log = prediction_log_pb2.PredictionLog.FromString(record)
            except DecodeError as error:
                raise invalid_argument(
                    f"Failed to parse warmup record: {record!r} from {path}"
                ) from error
            _run(servable, log)
            count += 1
            if count > MOST_RECORDS:
                raise invalid_argument(
                    f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {path}"
                )
    except tf.errors.DataLossError as error:
        raise ServingError(
            Code.DATA_LOSS,
            f"{error.message}. Please verify your warmup data is in TFRecord format.",
        ) from error
    return count


def _run(servable: Servable, log: prediction_log_pb2.PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        run_predict(servable, log.predict_log.request)
    elif kind == "classify_log":
        run_classify(servable, log.classify_log.request)
    elif kind == "regress_log":
        run_regress(servable, log.regress_log.request)
    elif kind == "multi_inference_log":
        run_multi_inference(servable, log.multi_inference_log.request)
    elif kind is not None:
        number = prediction_log_pb2.PredictionLog.DESCRIPTOR.fields_by_name[kind].number
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
