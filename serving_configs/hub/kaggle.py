"""Metadata for Kaggle Models, where each model here is a variation of one model.

`kaggle models create` and `kaggle models variations create` read the files. Source of the fields:
docs/models_metadata.md of Kaggle/kaggle-api.
"""

import json
from collections.abc import Sequence

from ..tree.published import PublishedModel
from .archive import archive_name
from .pages import model_page, title_of

MODEL = "cait"
FRAMEWORK = "tensorFlow2"
_LICENCE = "Apache 2.0"
_UNKNOWN_LICENCE = "Other (specified in description)"


def variation(model: PublishedModel) -> str:
    """A model's slug: `cait_xxs24_224_fe` is `xxs24-224-fe`."""
    name = model.model if model.has_own_name else model.model.removeprefix("cait_")
    return name.replace("_", "-")


def model_metadata(publisher: str, models: Sequence[PublishedModel]) -> str:
    """`model-metadata.json`."""
    names = ", ".join(sorted(f"`{variation(model)}`" for model in models))
    untrained = sorted(variation(model) for model in models if not model.trained)
    warning = f"\n\n**Not trained**, random weights: {', '.join(untrained)}." if untrained else ""
    return _json(
        {
            "ownerSlug": publisher,
            "title": "CaiT",
            "slug": MODEL,
            "subtitle": "Image classifiers and feature extractors with attention outputs",
            "isPrivate": True,
            "description": "CaiT of [Going deeper with Image Transformers]"
            "(https://arxiv.org/abs/2103.17239). Each variant is here as a classifier "
            "and, with `fe`, as a feature extractor. Variations: "
            f"{names}.{warning}",
            "publishTime": "",
            "provenanceSources": "https://github.com/facebookresearch/deit",
        }
    )


def instance_metadata(publisher: str, model: PublishedModel, hub_url: str) -> str:
    """`model-instance-metadata.json` of a model's variation."""
    what = "Image classifier" if model.head == "classifier" else "Image feature extractor"
    return _json(
        {
            "ownerSlug": publisher,
            "modelSlug": MODEL,
            "instanceSlug": variation(model),
            "framework": FRAMEWORK,
            "overview": f"{what}: {title_of(model)}"
            + ("" if model.trained else ". Not trained: random weights"),
            "usage": _usage(publisher, model, hub_url),
            "licenseName": _UNKNOWN_LICENCE if model.has_own_name else _LICENCE,
            "fineTunable": True,
            "trainingData": ["ImageNet-1k (ILSVRC 2012)"]
            if model.trained and model.knows_imagenet
            else [],
            "modelInstanceType": "Unspecified",
            "baseModelInstance": "",
            "externalBaseModelUrl": "",
        }
    )


def _usage(publisher: str, model: PublishedModel, hub_url: str) -> str:
    """The page's text below its metadata, with `${PATH}`, which Kaggle replaces by its path."""
    page = model_page(model, publisher, hub_url)
    text = page[page.index("## Overview") :]
    return text.replace(
        f"{hub_url}/{archive_name(publisher, model.model, model.version)}", "${PATH}"
    )


def _json(content: dict[str, object]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
