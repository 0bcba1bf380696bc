"""Pages and metadata of the hub: their format, what they say, and their snippets."""

import dataclasses
import json
import pathlib
import re

import pytest

from export.variants import VARIANTS
from pipelines.evaluate.report import evaluation_of, write_evaluation
from pipelines.evaluate.scores import ServedModel, ShardScore
from serving_configs.errors import ConfigError
from serving_configs.hub.kaggle import instance_metadata, model_metadata, variation
from serving_configs.hub.pages import collection_page, model_page, publisher_page
from serving_configs.tree.evaluation import evaluation_path, read_evaluations
from serving_configs.tree.latency import LatencyProfile
from serving_configs.tree.manifest import Weights
from serving_configs.tree.published import PublishedModel
from signatures import BOTH, signatures_for
from tests.support.hub_validator import problems

URL = "https://example.org/hub"

MODELS = [
    PublishedModel(
        directory=pathlib.Path("/published") / variant.model_name(head) / "2",
        model=variant.model_name(head),
        version=2,
        variant=variant.name,
        head=head,
        geometry=variant.config.geometry,
        parameters=variant.parameters - (0 if head == "classifier" else 1000),
        checkpoint=Weights("timm on the model hub", "ab" * 32, trained=True),
        contract="ab" * 32,
        software={},
        files=(),
        gate=(
            {
                "signature": "serving_default",
                "output": "logits" if head == "classifier" else "features",
                "difference": 2.4e-6,
            },
        ),
        images=8,
        published={"top1": variant.top1, "top5": variant.top5, "flops_g": variant.flops_g},
        measured=dataclasses.asdict(LatencyProfile(0.05, 8, 0.3, 2**24)),
    )
    for variant in VARIANTS.values()
    for head in BOTH
]
UNTRAINED = dataclasses.replace(
    MODELS[0], checkpoint=dataclasses.replace(MODELS[0].checkpoint, trained=False)
)


@pytest.fixture
def docs(tmp_path: pathlib.Path) -> pathlib.Path:
    """The pages of all twenty models."""
    for model in MODELS:
        page = tmp_path / "cait" / model.model / "2.md"
        page.parent.mkdir(parents=True)
        page.write_text(model_page(model, "cait", URL))
    (tmp_path / "cait" / "cait.md").write_text(publisher_page("cait"))
    (tmp_path / "cait" / "collections" / "cait").mkdir(parents=True)
    collection = tmp_path / "cait" / "collections" / "cait" / "1.md"
    collection.write_text(collection_page(MODELS, "cait", URL))
    return tmp_path


def test_all_pages_keep_the_rules_of_the_hub(docs: pathlib.Path) -> None:
    pages = sorted(docs.rglob("*.md"))
    assert len(pages) == 22
    assert {page: problems(docs, page) for page in pages} == {page: [] for page in pages}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# Module cait/", "# Module CaiT/", "first line"),
        ("# Module", "## Module", "first line"),
        ("<!-- task: image-classification -->", "", "task is missing"),
        ("<!-- format: saved_model_2 -->", "<!-- format: keras -->", "format 'keras' is unknown"),
        ("<!-- license: apache-2.0 -->", "<!-- licence: x -->", "licence is not supported"),
        (".tar.gz -->", ".zip -->", "asset-path"),
        ("## Overview", "Overview", "unexpected line"),
        ("<!-- fine-tunable: true -->", "<!-- format: hub -->", "format more than once"),
    ],
)
def test_the_rules_find_what_is_wrong(docs: pathlib.Path, old: str, new: str, message: str) -> None:
    page = docs / "cait" / "cait_xxs24_224" / "2.md"
    text = page.read_text()
    assert old in text
    page.write_text(text.replace(old, new, 1))
    assert any(message in problem for problem in problems(docs, page))


def test_a_link_to_no_page_and_a_missing_publisher_are_found(docs: pathlib.Path) -> None:
    (docs / "cait" / "cait_m48_448" / "2.md").unlink()
    collection = docs / "cait" / "collections" / "cait" / "1.md"
    assert "no page of cait/cait_m48_448/2" in problems(docs, collection)
    (docs / "cait" / "cait.md").unlink()
    assert "no page of publisher cait" in problems(docs, collection)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.model)
def test_a_page_says_what_the_model_is(model: PublishedModel) -> None:
    text = model_page(model, "cait", URL)
    assert text.startswith(f"# Module cait/{model.model}/2\n")
    assert f"<!-- asset-path: {URL}/cait/{model.model}/2.tar.gz -->" in text
    assert "<!-- network-architecture: cait -->" in text
    assert "<!-- dataset: imagenet-ilsvrc-2012-cls -->" in text
    size = model.geometry.image_size
    assert f"{size} x {size} pixels as float32" in text
    rows = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)
    for name, signature in signatures_for(model.head, model.geometry).items():
        assert any(row.startswith(f"`{name}` |") for row in rows)
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for tensor in tensors:
                shape = ", ".join(
                    "B" if n is None else str(n) for n in tensor.resolve(model.geometry)
                )
                shape = f"({shape},)" if len(tensor.shape) == 1 else f"({shape})"
                assert f"{kind} `{tensor.name}` | {tensor.dtype} | {shape} | {tensor.text}" in rows
    variant = VARIANTS[model.variant]
    assert f"{variant.top1:.3f} % | {variant.top5:.3f} %" in text
    assert f"{model.parameters:,} parameters" in text
    assert "at most 2.4e-06" in text
    assert "Not trained" not in text
    assert ("`classify`" in text) == (model.head == "classifier")


def test_weights_that_are_not_trained_are_marked() -> None:
    text = model_page(UNTRAINED, "cait", URL)
    assert "**Not trained.**" in text
    assert "dataset:" not in text
    assert "78.524" not in text
    collection = collection_page([UNTRAINED, *MODELS[1:]], "cait", URL)
    assert (
        f"**Not trained**, with random weights for trying them out: {UNTRAINED.model}."
        in collection
    )
    metadata = json.loads(instance_metadata("cait", UNTRAINED, URL))
    assert metadata["trainingData"] == []
    assert "Not trained" in metadata["overview"]
    assert "Not trained" in json.loads(model_metadata("cait", [UNTRAINED]))["description"]


def test_weights_of_somebody_s_own_have_their_name_and_classes_and_no_licence_of_ours(
    docs: pathlib.Path,
) -> None:
    labels = tuple(f"class {number}" for number in range(5))
    base = MODELS[0]
    geometry = dataclasses.replace(base.geometry, num_classes=5)
    own = dataclasses.replace(
        base, model="my-pets", geometry=geometry, labels=labels, published=None
    )
    page = docs / "cait" / "my-pets" / "2.md"
    page.parent.mkdir()
    page.write_text(text := model_page(own, "cait", URL))
    assert problems(docs, page) == []
    assert "Image classifier with 5 classes: `my-pets`, CaiT-XXS24 at 224 pixels." in text
    assert "## Classes\n\nIn the order of the logits: `class 0`, `class 1`, " in text
    assert "`class 4`.\n\n## Input\n" in text
    for claim in ("apache", "Apache", "facebookresearch/deit", "imagenet-ilsvrc", "78.524"):
        assert claim not in text
        assert claim in model_page(base, "cait", URL)
    collection = collection_page([*MODELS, own], "cait", URL)
    assert "(my-pets) know no licence." in collection
    assert "| `my-pets`, CaiT-XXS24 | 224 |" in collection
    assert "know no licence" not in collection_page(MODELS, "cait", URL)
    assert variation(own) == "my-pets"
    found = json.loads(instance_metadata("cait", own, URL))
    assert found["licenseName"] == "Other (specified in description)"
    assert found["trainingData"] == []


def test_measured_accuracies_stand_beside_the_published_ones(tmp_path: pathlib.Path) -> None:
    model = MODELS[0]
    assert read_evaluations(str(tmp_path)) == {}
    # Written by the pipeline that measures, of a version with images and of one without.
    figures = [ShardScore(classes=1000, images=50_000, top1=39_262, top5=47_106)]
    entries = [
        evaluation_of(ServedModel(model.model, version, model.variant, "", "ab"), scores, ())
        for version, scores in ((2, figures), (3, []))
    ]
    of_five = ServedModel(model.model, 4, model.variant, "", "ab", num_classes=5)
    entries.append(evaluation_of(of_five, [ShardScore(classes=5, images=10, top1=9)], ()))
    output = evaluation_path(str(tmp_path)).parent
    output.mkdir()
    write_evaluation(entries, ["imagenet/val"], str(output))
    evaluations = read_evaluations(str(tmp_path))
    assert set(evaluations) == {(model.model, 2), (model.model, 4)}
    own = dataclasses.replace(model, evaluation=evaluations[model.model, 4])
    assert re.search(
        r"measured on 10 images, with the 95 % interval \| 90\.000 % \(\S+ to \S+\) \| - \|",
        model_page(own, "cait", URL),
    )
    evaluated = dataclasses.replace(model, evaluation=evaluations[model.model, 2])
    text = model_page(evaluated, "cait", URL)
    assert "| 78.524 % | 94.212 % |\n| this version, measured on 50,000 images" in text
    assert "78.524 % (78.1" in text
    evaluation_path(str(tmp_path)).write_text("{}")
    with pytest.raises(ConfigError, match=r"expected the results of pipelines\.evaluate"):
        read_evaluations(str(tmp_path))


def test_collection_has_every_variant_and_both_heads() -> None:
    text = collection_page(MODELS, "cait", URL)
    for variant in VARIANTS.values():
        (row,) = [
            line
            for line in text.splitlines()
            if line.startswith("|") and f"[{variant.name}]" in line
        ]
        assert f"{variant.parameters:,} | {variant.flops_g:.1f} G" in row
        assert f"{variant.top1:.3f} % | {variant.top5:.3f} %" in row
        assert f"[{variant.name}_fe](../../{variant.name}_fe/2.md)" in row
    assert text.count("* [cait_") == 20
    assert text.index("## Image classifiers") < text.index("## Feature extractors")


def test_kaggle_metadata_has_the_fields_that_are_read() -> None:
    found = json.loads(model_metadata("someone", MODELS))
    assert set(found) == {
        "ownerSlug",
        "title",
        "slug",
        "subtitle",
        "isPrivate",
        "description",
        "publishTime",
        "provenanceSources",
    }
    assert (found["ownerSlug"], found["slug"]) == ("someone", "cait")
    assert all(f"`{variation(model)}`" in found["description"] for model in MODELS)
    slugs = set()
    for model in MODELS:
        instance = json.loads(instance_metadata("someone", model, URL))
        assert set(instance) == {
            "ownerSlug",
            "modelSlug",
            "instanceSlug",
            "framework",
            "overview",
            "usage",
            "licenseName",
            "fineTunable",
            "trainingData",
            "modelInstanceType",
            "baseModelInstance",
            "externalBaseModelUrl",
        }
        assert instance["framework"] == "tensorFlow2"
        assert (instance["modelSlug"], instance["licenseName"]) == ("cait", "Apache 2.0")
        assert 'hub.load("${PATH}")' in instance["usage"]
        assert URL not in instance["usage"]
        slugs.add(instance["instanceSlug"])
    assert len(slugs) == 20
    assert "xxs24-224-fe" in slugs
