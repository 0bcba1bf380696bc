"""Warm-up: requests in a version's files, run before the version is available.

Source: `saved_model_warmup.cc` and `saved_model_warmup_util.cc` of tensorflow/serving's servables.
"""

import pathlib

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from signatures.warmup import MOST_RECORDS, REQUESTS

from ..errors import Code, ServingError, invalid_argument
from ..tensors import MOST_BYTES
from .calls.classify import CLASSIFY
from .calls.multi_inference import run_multi_inference
from .calls.predict import run_predict
from .calls.regress import REGRESS
from .servables.servable import Servable


def warm_up(servable: Servable, directory: pathlib.Path) -> int:
    """Runs the warm-up requests of a version.

    Args:
        servable: the loaded version, with its batching.
        directory: the version's directory.

    Returns:
        The number of requests; 0 without a file.

    Raises:
        ServingError: a request failed, the file is damaged, or it has too many records.
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
        # The file is of the version: it can take no more from the server than the graph can.
        run_predict(servable, log.predict_log.request, most_filled=MOST_BYTES)
    elif kind == "classify_log":
        CLASSIFY.run(servable, log.classify_log.request)
    elif kind == "regress_log":
        REGRESS.run(servable, log.regress_log.request)
    elif kind == "multi_inference_log":
        run_multi_inference(servable, log.multi_inference_log.request)
    elif kind is not None:
        number = prediction_log_pb2.PredictionLog.DESCRIPTOR.fields_by_name[kind].number
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
