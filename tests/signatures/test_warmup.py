"""The warm-up requests: what is in them, that a server runs them, and that they are small."""

import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from export.variants import CaiTConfig
from serving.errors import ServingError
from serving.model_server.servables.servable import SessionSettings, load_servable
from serving.model_server.warmup import warm_up
from serving.tensors import to_array
from signatures import BOTH, CLASSIFY_METHOD, Geometry, Head, signatures_for
from signatures.warmup import MOST_RECORDS, REQUESTS, warmup_requests, write_warmup

SIZES = (1, 2, 4)
LARGE = Geometry(448, 784, 16, 768, 1000, 48, 2)


def read(path: pathlib.Path) -> list[Any]:
    return [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    ]


def tensors(log: Any) -> dict[str, Any]:
    return dict(log.predict_log.request.inputs)


@pytest.mark.parametrize("head", BOTH)
def test_there_is_a_request_for_each_signature_and_size(head: Head) -> None:
    found = set()
    for log in warmup_requests("m", head, LARGE, SIZES):
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        assert request.model_spec.name == "m"
        name = request.model_spec.signature_name
        signature = signatures_for(head, LARGE)[name]
        if signature.method == CLASSIFY_METHOD:
            assert kind == "classify_log"
            size = len(request.input.example_list.examples)
        else:
            assert kind == "predict_log"
            inputs = tensors(log)
            assert set(inputs) == {tensor.name for tensor in signature.inputs}
            for tensor in signature.inputs:
                first, *rest = [dim.size for dim in inputs[tensor.name].tensor_shape.dim]
                assert [None, *rest] == list(tensor.resolve(LARGE))
            size = first
        found.add((name, size))
    assert found == {(name, size) for name in signatures_for(head, LARGE) for size in SIZES}


@pytest.mark.parametrize("head", BOTH)
def test_tensorflow_and_the_server_read_the_same_tensors(
    head: Head, tiny_config: CaiTConfig
) -> None:
    count = 0
    for log in warmup_requests("m", head, tiny_config.geometry, SIZES):
        for name, proto in tensors(log).items():
            # The first is `Tensor::FromProto` in C++, as in TF Serving.
            read_by_tensorflow = tf.io.parse_tensor(
                proto.SerializeToString(), tf.as_dtype(proto.dtype)
            ).numpy()
            np.testing.assert_array_equal(read_by_tensorflow, to_array(proto))
            assert read_by_tensorflow.shape[0] in SIZES
            if name == "image_bytes":
                assert set(read_by_tensorflow) == {read_by_tensorflow[0]}
                assert tf.io.decode_image(read_by_tensorflow[0]).shape == (160, 224, 3)
            count += 1
    assert count


@pytest.mark.parametrize("head", BOTH)
@pytest.mark.slow
def test_a_server_runs_them(
    head: Head,
    tiny_models: dict[Head, pathlib.Path],
    tiny_config: CaiTConfig,
    tmp_path: pathlib.Path,
) -> None:
    version = pathlib.Path(shutil.copytree(tiny_models[head], tmp_path / "1"))
    path = version / REQUESTS
    path.parent.mkdir(exist_ok=True)
    written = write_warmup(path, "m", head, tiny_config.geometry, SIZES)
    assert written == len(SIZES) * len(signatures_for(head, tiny_config.geometry))
    servable = load_servable(version, SessionSettings())
    try:
        assert warm_up(servable, version) == written
        # And not those of a model of another size.
        write_warmup(path, "m", head, LARGE, SIZES)
        with pytest.raises(ServingError):
            warm_up(servable, version)
    finally:
        servable.close()


def test_bytes_are_the_same_every_time_and_few(tmp_path: pathlib.Path) -> None:
    sizes = (1, 2, 4, 8, 16, 32)
    for name in ("a", "b"):
        write_warmup(tmp_path / name, "m", "classifier", LARGE, sizes)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    # One image of that size is 2.4 MB as a tensor.
    assert (tmp_path / "a").stat().st_size < 250_000
    assert len(read(tmp_path / "a")) == 9 * len(sizes)


def test_more_than_a_server_takes_is_refused(tmp_path: pathlib.Path) -> None:
    sizes = range(1, MOST_RECORDS // 9 + 2)
    with pytest.raises(ValueError, match="1008 warm-up requests; at most 1000"):
        write_warmup(tmp_path / "requests", "m", "classifier", LARGE, sizes)
    assert not (tmp_path / "requests").exists()
