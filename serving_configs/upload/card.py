"""The page of a model as a model card of Hugging Face: README.md, with metadata at its start."""

from signatures import Head

from ..hub.pages import LICENCE, model_page
from ..tree.published import PublishedModel

CARD = "README.md"

# Head -> task in the hub's vocabulary.
_TASKS: dict[Head, str] = {
    "classifier": "image-classification",
    "features": "image-feature-extraction",
}


def version_tag(version: int) -> str:
    """The tag of a version."""
    return f"v{version}"


def model_card(model: PublishedModel, owner: str) -> str:
    """The card of a version.

    Args:
        model: the published version.
        owner: the user or the organisation that has the repository.

    Returns:
        Markdown that begins with metadata in YAML. Its snippets load the version from the hub.
    """
    from huggingface_hub import ModelCardData

    metadata = ModelCardData(
        license="other" if model.has_own_name else LICENCE,
        pipeline_tag=_TASKS[model.head],
        tags=["cait", "saved-model", "tensorflow"],
        datasets=["imagenet-1k"] if model.trained and model.knows_imagenet else None,
    )
    tag = version_tag(model.version)
    snapshot = f'snapshot_download("{owner}/{model.model}", revision="{tag}")'
    page = model_page(model, owner, "", snapshot=snapshot)
    text = page[page.index("## Overview") :]
    title = f"# {model.model}, version {model.version}"
    return f"---\n{metadata.to_yaml()}\n---\n\n{title}\n\n{text}"
