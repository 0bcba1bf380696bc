"""Measuring a model, and running its warm-up requests in the gate."""

import pathlib
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import pipelines.gate.latency
import signatures.warmup
from export.variants import CaiTConfig
from pipelines.gate.gate import Gate
from pipelines.gate.interface import GateError
from pipelines.gate.latency import BATCH, WarmupError, check_warmup, measure, write_serving_files
from pipelines.gate.loaded_model import LoadedModel
from serving.model_server.batching.parameters import read_batching_parameters
from serving_configs.tree.latency import LatencyProfile
from signatures import Geometry, Head

GEOMETRY = Geometry(16, 1, 1, 4, 10, 1, 1)
MIB = 2**20


def test_batches_that_take_long_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def run(images: int) -> None:
        sizes.append(images)
        time.sleep(0.02)

    assert measure(run, GEOMETRY).batch == BATCH
    assert sorted(set(sizes)) == [1, BATCH]
    # Whatever the machine does, one image takes longer than this.
    monkeypatch.setattr(pipelines.gate.latency, "_LONGEST", 0.02)
    sizes.clear()
    found = measure(run, GEOMETRY)
    assert set(sizes) == {1}
    assert (found.batch, found.batch_latency) == (1, found.latency)


def test_what_was_timed_before_is_not_timed_again() -> None:
    sizes: list[int] = []

    def run(images: int) -> None:
        sizes.append(images)

    assert measure(run, GEOMETRY, [0.003, 0.002, 0.004]).latency == 0.002
    assert set(sizes) == {BATCH}
    # Once is enough for what takes as long as this, and too little for what does not.
    assert measure(run, GEOMETRY, [60.0]).latency == 60
    assert 1 not in sizes
    assert measure(run, GEOMETRY, [0.5]).latency < 0.5
    assert 1 in sizes


@pytest.mark.slow
def test_memory_is_what_a_batch_needs_more(tmp_path: pathlib.Path) -> None:
    held: list[Any] = []

    def run(images: int) -> None:
        held.append(np.ones((images, 32 * MIB), np.uint8))
        # So that it is seen.
        time.sleep(0.1)
        held.clear()

    assert measure(run, GEOMETRY).memory_per_image == pytest.approx(32 * MIB, rel=0.5)
    # What is known of the model counts where the process does not grow.
    large = Geometry(16, 784, 16, 768, 10, 1, 1)
    assert measure(lambda images: None, large).memory_per_image >= 3 * 4 * 16 * 784**2


def test_files_are_those_of_the_measurement(tmp_path: pathlib.Path) -> None:
    measured = LatencyProfile(0.1, 8, 0.8, MIB)
    write_serving_files(tmp_path, "m", "features", GEOMETRY, measured)
    found = read_batching_parameters(tmp_path / "batching_params.pbtxt")
    assert found.allowed_batch_sizes == (1, 2, 4, 64)
    assert found.execution_size == 4
    requests = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    before = requests.read_bytes()
    write_serving_files(tmp_path, "m", "features", GEOMETRY, measured)
    assert requests.read_bytes() == before


@pytest.mark.slow
def test_the_gate_measures_and_runs_the_warm_up(
    tiny_models: dict[Head, pathlib.Path],
    tiny_config: CaiTConfig,
    tiny_tensors: Any,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # However busy the machine is.
    monkeypatch.setattr(pipelines.gate.latency, "_LONGEST", 3600.0)
    gate = Gate(LoadedModel(tiny_models["features"], "features", tiny_config))
    measured = gate.measure("m", [])
    assert measured.batch == BATCH
    assert measured.latency > 0
    # A request that fails would make a server refuse the version.
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    monkeypatch.setattr(signatures.warmup, "_IMAGE", tmp_path / "broken.jpg")
    with pytest.raises(GateError, match=r"warm-up request \d+ of bytes_features fails: .*image"):
        gate.measure("m", [])


@pytest.fixture
def classifier(tiny_models: dict[Head, pathlib.Path]) -> dict[str, "Recorded"]:
    loaded = tf.saved_model.load(str(tiny_models["classifier"]))
    return {name: Recorded(function) for name, function in loaded.signatures.items()}


class Recorded:
    """A signature that keeps how many images it was run with."""

    def __init__(self, function: Any) -> None:
        self.structured_input_signature = function.structured_input_signature
        self.images: list[int] = []
        self._function = function

    def __call__(self, **inputs: Any) -> Any:
        self.images.append(min(len(tensor) for tensor in inputs.values()))
        return self._function(**inputs)


@pytest.mark.slow
def test_a_joint_warm_up_request_runs_once_for_signatures_with_the_same_inputs(
    classifier: dict[str, Recorded], tiny_config: CaiTConfig
) -> None:
    found: Any = classifier
    measured = LatencyProfile(0.1, 8, 0.8, MIB)
    arguments: tuple[str, Head, Geometry, LatencyProfile]
    arguments = ("m", "classifier", tiny_config.geometry, measured)
    assert check_warmup(found, *arguments) == 3 * len(found)
    ran = [function for function in classifier.values() if function.images]
    assert [function.images for function in ran] == [[2]] * 2
    kinds = [function.structured_input_signature[1] for function in ran]
    assert sorted(name for kind in kinds for name in kind) == ["image_bytes", "inputs"]
    # Each is looked at all the same.
    del found["features"]
    with pytest.raises(WarmupError, match="of features fails"):
        check_warmup(found, *arguments)


def test_a_warm_up_request_has_the_inputs_of_its_signature(
    classifier: dict[str, Recorded], tiny_config: CaiTConfig
) -> None:
    found: Any = classifier
    size = tiny_config.image_size
    arguments: tuple[str, Head, Geometry, LatencyProfile]
    arguments = ("m", "classifier", tiny_config.geometry, LatencyProfile(0.1, 1, 0.1, MIB))
    other = {"images": tf.TensorSpec((None, size + 16, size, 3), tf.float32)}
    found["features"].structured_input_signature = ((), other)
    with pytest.raises(WarmupError, match=rf"features fails: images is float32 \(1, {size}, .*; e"):
        check_warmup(found, *arguments)
    found["features"].structured_input_signature = ((), {"pixels": other["images"]})
    with pytest.raises(WarmupError, match="features fails: inputs images; expected pixels"):
        check_warmup(found, *arguments)
    assert not any(function.images for function in classifier.values())
