"""The gate on models whose products are computed in bfloat16."""

import json
import pathlib
from collections.abc import Callable

import pytest

from export.compute import SERVING_PROFILES, Compute, ServingProfile
from export.saved_model.signature_weights import SignatureWeights, Weight
from pipelines.gate.loaded_model import LoadedModel
from pipelines.gate.prepared_image import PreparedImage
from tests.support.arrays import Tensors
from tests.support.gated import (
    CONFIG,
    TENSORS,
    compared,
    convert_right,
    failing,
    prepared,
    with_weights,
)
from tests.support.trees import TINY, Result

pytestmark = pytest.mark.slow

# A published version's manifest and page, below the tree.
MANIFEST = f"serving/{TINY}/1/assets.extra/manifest.json"
PAGE = f"hub/docs/cait/{TINY}/1.md"


@pytest.fixture(scope="module", params=SERVING_PROFILES)
def profile(request: pytest.FixtureRequest) -> ServingProfile:
    found: ServingProfile = request.param
    return found


@pytest.fixture(scope="module")
def model(profile: ServingProfile, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    root = tmp_path_factory.mktemp("bfloat16")
    return convert_right(root, ("classifier",), Compute("bfloat16", profile))["classifier"]


@pytest.fixture(scope="module")
def image(data: pathlib.Path) -> PreparedImage:
    return prepared(data / "photos" / "cat.jpg", attention=True)


def test_a_right_conversion_passes_and_its_call_is_held_to_the_bounds_of_float32(
    model: LoadedModel, image: PreparedImage
) -> None:
    gate = compared(model, [image], dtype="bfloat16")
    assert failing(gate) == set()
    bounds = {(f.signature, f.output): f.bound for f in gate.figures}
    assert bounds["__call__", "logits"] == bounds["__call__", "sa_ffn_block_1_att"] * 10 == 1e-4
    assert bounds["logits", "logits"] == bounds["bytes_features", "features"] == 0.1
    assert bounds["self_attention", "attention"] == 0.02


def test_it_does_not_pass_for_one_in_float32(model: LoadedModel, image: PreparedImage) -> None:
    caught = failing(compared(model, [image], dtype="float32"))
    assert {("serving_default", "logits"), ("self_attention", "attention")} <= caught
    assert not {output for signature, output in caught if signature == "__call__"}


def test_swapped_norms_are_caught(model: LoadedModel, image: PreparedImage) -> None:
    one, two = "blocks.1.norm1.weight", "blocks.1.norm2.weight"
    with with_weights(model, {one: TENSORS[two], two: TENSORS[one]}):
        caught = failing(compared(model, [image], dtype="bfloat16"))
    assert ("__call__", "sa_ffn_block_1_att") in caught


@pytest.mark.parametrize(
    ("compute", "constants"),
    [
        (Compute("bfloat16"), False),
        # They have constants where their answer is the main output alone.
        (Compute("bfloat16", "throughput"), True),
        (Compute(profile="throughput"), False),
    ],
)
def test_a_wrong_weight_of_the_signatures_alone_is_caught(
    compute: Compute,
    constants: bool,
    image: PreparedImage,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The signatures have weights of their own, which the call as a layer does not read."""
    right = SignatureWeights._copied

    def wrong(self: SignatureWeights, name: str, weight: Weight, dtype: str) -> Weight:
        value = right(self, name, weight, dtype)
        return -value if name == "attn_proj/kernel" else value

    monkeypatch.setattr(SignatureWeights, "_copied", wrong)
    model = convert_right(tmp_path, ("classifier",), compute)["classifier"]
    caught = failing(compared(model, [image], dtype=compute.dtype))
    assert {("serving_default", "logits"), ("logits", "logits")} <= caught
    assert not {output for signature, output in caught if signature == "__call__"}
    assert (("self_attention", "attention") in caught) != constants


def test_a_right_conversion_for_several_requests_is_as_exact(
    image: PreparedImage, tmp_path: pathlib.Path
) -> None:
    compute = Compute(profile="throughput")
    model = convert_right(tmp_path, ("classifier",), compute)["classifier"]
    assert failing(compared(model, [image])) == set()


def test_wrong_labels_are_caught(model: LoadedModel, image: PreparedImage) -> None:
    labels = [str(i) for i in reversed(range(CONFIG.num_classes))]
    caught = failing(compared(model, [image], labels, "bfloat16"))
    assert caught == {("classify", "classes")}


@pytest.mark.parametrize(("apart", "holds"), [(0.05, True), (0.3, False)])
def test_classes_that_are_near_may_change_places(
    model: LoadedModel, data: pathlib.Path, apart: float, holds: bool
) -> None:
    """The two best classes, whose order the model has the other way round."""

    def best(*biases: float) -> Tensors:
        bias = TENSORS["head.bias"].copy()
        bias[[3, 7]] = biases
        weight = TENSORS["head.weight"].copy()
        weight[7] = weight[3]
        return {"head.bias": bias, "head.weight": weight}

    tensors = {**TENSORS, **best(20, 20 + apart)}
    image = prepared(data / "photos" / "cat.jpg", attention=False, tensors=tensors)
    with with_weights(model, best(20 + apart, 20)):
        figures = compared(model, [image], dtype="bfloat16").figures
    assert {figure.output: figure.within_tolerance for figure in figures}["top1"] == holds


def test_a_run_says_what_it_computes_in(publish_tiny: Callable[..., Result]) -> None:
    flags = ("--compute_dtype", "bfloat16", "--profile", "throughput", "--heads", "classifier")
    result = publish_tiny(*flags)
    assert result.status == 0, result.stderr
    manifest = json.loads((result.tree / MANIFEST).read_text())
    assert (manifest["compute_dtype"], manifest["profile"]) == ("bfloat16", "throughput")
    assert {figure["bound"] for figure in manifest["gate"]} >= {0.1, 1e-4}
    products = "- products of the signatures: bfloat16, for throughput\n"
    assert products in (result.tree / "report.md").read_text()
    page = (result.tree / PAGE).read_text()
    assert "are computed in bfloat16; inputs, " in page
    assert "built for several requests at a time" in page
    # Other content under the same name, and so another version.
    again = publish_tiny("--heads", "classifier")
    assert again.status == 0, again.stderr
    second = result.tree / MANIFEST.replace("/1/", "/2/")
    manifest = json.loads(second.read_text())
    assert (manifest["compute_dtype"], manifest["profile"]) == ("float32", "latency")
    page = (result.tree / PAGE.replace("/1.", "/2.")).read_text()
    assert "are computed in" not in page
    assert "at a time" not in page
