"""The gate on models whose products are computed in bfloat16."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from export.checkpoints.random_weights import random_tensor
from export.compute import ComputeDtype
from export.convert import convert
from export.variants import CaiTConfig
from export.weights import expected_shapes
from pipelines.gate.gate import Gate
from pipelines.gate.prepared_image import PreparedImage, prepare_image
from tests.support.trees import TINY, Result

pytestmark = pytest.mark.slow

CONFIG = CaiTConfig(64, 16, 64, 4, 6, num_classes=100)
TENSORS = {key: random_tensor("gate", key, shape) for key, shape in expected_shapes(CONFIG).items()}
# A published version's manifest and page, below the tree.
MANIFEST = f"serving/{TINY}/1/assets.extra/manifest.json"
PAGE = f"hub/docs/cait/{TINY}/1.md"
Tensors = Mapping[str, np.ndarray]
GateOf = Callable[..., Gate]


def prepared(data: pathlib.Path, attention: bool, tensors: Tensors = TENSORS) -> PreparedImage:
    encoded = (data / "photos" / "cat.jpg").read_bytes()
    return prepare_image("cat.jpg", encoded, attention, CONFIG, tensors)


@pytest.fixture
def gate_of(tmp_path: pathlib.Path) -> GateOf:
    def run(
        image: PreparedImage,
        tensors: Tensors = TENSORS,
        dtype: ComputeDtype = "bfloat16",
        labels: Sequence[str] | None = None,
    ) -> Gate:
        list(convert("gate", CONFIG, tensors, {"classifier": tmp_path / "m"}, dtype="bfloat16"))
        gate = Gate(tmp_path / "m", "classifier", CONFIG, labels, dtype=dtype)
        gate.compare([image])
        return gate

    return run


def failing(gate: Gate) -> set[tuple[str, str]]:
    return {
        (figure.signature, figure.output) for figure in gate.figures if not figure.within_tolerance
    }


def test_a_right_conversion_passes_and_its_call_is_held_to_the_bounds_of_float32(
    gate_of: GateOf, data: pathlib.Path
) -> None:
    gate = gate_of(prepared(data, attention=True))
    assert failing(gate) == set()
    bounds = {(f.signature, f.output): f.bound for f in gate.figures}
    assert bounds["__call__", "logits"] == bounds["__call__", "sa_ffn_block_3_att"] * 10 == 1e-4
    assert bounds["logits", "logits"] == bounds["bytes_features", "features"] == 0.1
    assert bounds["self_attention", "attention"] == 0.02


def test_it_does_not_pass_for_one_in_float32(gate_of: GateOf, data: pathlib.Path) -> None:
    caught = failing(gate_of(prepared(data, attention=True), dtype="float32"))
    assert {("serving_default", "logits"), ("self_attention", "attention")} <= caught
    assert not {output for signature, output in caught if signature == "__call__"}


def test_swapped_norms_are_caught(gate_of: GateOf, data: pathlib.Path) -> None:
    one, two = "blocks.3.norm1.weight", "blocks.3.norm2.weight"
    swapped = {**TENSORS, one: TENSORS[two], two: TENSORS[one]}
    caught = failing(gate_of(prepared(data, attention=True), swapped))
    assert ("__call__", "sa_ffn_block_3_att") in caught


def test_wrong_labels_are_caught(gate_of: GateOf, data: pathlib.Path) -> None:
    labels = [str(i) for i in reversed(range(CONFIG.num_classes))]
    caught = failing(gate_of(prepared(data, attention=True), labels=labels))
    assert caught == {("classify", "classes")}


@pytest.mark.parametrize(("apart", "holds"), [(0.05, True), (0.3, False)])
def test_classes_that_are_near_may_change_places(
    gate_of: GateOf, data: pathlib.Path, apart: float, holds: bool
) -> None:
    """The two best classes, whose order the model has the other way round."""

    def best(*biases: float) -> Tensors:
        bias = TENSORS["head.bias"].copy()
        bias[[3, 7]] = biases
        weight = TENSORS["head.weight"].copy()
        weight[7] = weight[3]
        return {**TENSORS, "head.bias": bias, "head.weight": weight}

    image = prepared(data, attention=False, tensors=best(20, 20 + apart))
    figures = gate_of(image, best(20 + apart, 20)).figures
    assert {figure.output: figure.within_tolerance for figure in figures}["top1"] == holds


def test_a_run_says_what_it_computes_in(publish_tiny: Callable[..., Result]) -> None:
    result = publish_tiny("--compute_dtype", "bfloat16")
    assert result.status == 0, result.stderr
    manifest = json.loads((result.tree / MANIFEST).read_text())
    assert manifest["compute_dtype"] == "bfloat16"
    assert {figure["bound"] for figure in manifest["gate"]} >= {0.1, 1e-4}
    assert "- products of the signatures: bfloat16\n" in (result.tree / "report.md").read_text()
    assert "are computed in bfloat16; weights, " in (result.tree / PAGE).read_text()
    # Other content under the same name, and so another version.
    again = publish_tiny("--heads", "classifier")
    assert again.status == 0, again.stderr
    second = result.tree / MANIFEST.replace("/1/", "/2/")
    assert json.loads(second.read_text())["compute_dtype"] == "float32"
    assert "are computed in" not in (result.tree / PAGE.replace("/1.", "/2.")).read_text()
