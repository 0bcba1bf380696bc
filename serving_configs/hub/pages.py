"""Pages of the hub in tfhub.dev's documentation format: models, the collection, the publisher."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence

from signatures import Geometry, Head, TensorContract, signatures_for

from ..rendering import render
from ..tree.paths import hub_handle
from ..tree.published import PublishedModel
from .archive import archive_name, hub_root

LICENCE = "apache-2.0"
"""The weights' licence, by timm's configuration."""

DATASET = "imagenet-ilsvrc-2012-cls"
COLLECTION = "cait"

# Head -> task in the hub's vocabulary.
_TASKS: dict[Head, str] = {
    "classifier": "image-classification",
    "features": "image-feature-vector",
}


def docs_root(publish_to: str) -> pathlib.Path:
    """The directory of the pages."""
    return hub_root(publish_to) / "docs"


def collection_path(publisher: str) -> str:
    """Path of the collection's page under `docs_root`, without its suffix."""
    return f"{publisher}/collections/{COLLECTION}/1"


def hub_pages(
    models: Iterable[PublishedModel],
    latest: Sequence[PublishedModel],
    publisher: str,
    hub_url: str,
) -> dict[str, str]:
    """The path of every page under `docs_root` -> its text.

    Args:
        models: every version of every model.
        latest: the latest version of each.
        publisher: the publisher's name.
        hub_url: as in `model_page`.
    """
    return {
        **{
            f"{hub_handle(publisher, model.model, model.version)}.md": model_page(
                model, publisher, hub_url, {m.model: m.version for m in latest}
            )
            for model in models
        },
        f"{collection_path(publisher)}.md": collection_page(latest, publisher, hub_url),
        f"{publisher}/{publisher}.md": publisher_page(publisher),
    }


def model_page(
    model: PublishedModel,
    publisher: str,
    hub_url: str,
    linked: Mapping[str, int] | None = None,
    snapshot: str = "",
) -> str:
    """The page of a model.

    Args:
        model: the published version.
        publisher: the publisher's name.
        hub_url: URL of the hub's root, without a slash at the end.
        linked: model -> the version whose page can be linked; None for a page without the others.
        snapshot: the call of `huggingface_hub` that returns the version's directory, for snippets
            that load the version from there; empty for those that load the archive.
    """
    archive = f"{hub_url}/{archive_name(publisher, model.model, model.version)}"
    return render(
        "model.md.j2",
        model=model,
        title=title_of(model),
        handle=hub_handle(publisher, model.model, model.version),
        archive=archive,
        snapshot=snapshot,
        source=snapshot or f'"{archive}"',
        task=_TASKS[model.head],
        dataset=DATASET,
        licence=LICENCE,
        rows=signature_rows(model.head, model.geometry),
        sibling=_sibling(model),
        linked=linked or {},
    )


def collection_page(models: Iterable[PublishedModel], publisher: str, hub_url: str) -> str:
    """The page of all models.

    Args:
        models: the latest version of each.
        publisher: the publisher's name.
        hub_url: as in `model_page`.
    """
    ordered = sorted(models, key=lambda model: (model.parameters, model.geometry.image_size))
    names = list(dict.fromkeys(model.base_name for model in ordered))
    return render(
        "collection.md.j2",
        handle=hub_handle(publisher, COLLECTION, 1),
        publisher=publisher,
        dataset=DATASET if any(m.trained and m.knows_imagenet for m in ordered) else "",
        tasks=[task for head, task in _TASKS.items() if any(m.head == head for m in ordered)],
        variants=[[m for m in ordered if m.base_name == name] for name in names],
        models={head: [m for m in ordered if m.head == head] for head in _TASKS},
        untrained=[model.model for model in ordered if not model.trained],
        own=[model.model for model in ordered if model.has_own_name],
        title=short_title_of,
        archive=lambda m: f"{hub_url}/{archive_name(publisher, m.model, m.version)}",
    )


def publisher_page(publisher: str) -> str:
    """The page of a publisher."""
    return render("publisher.md.j2", publisher=publisher, collection=COLLECTION)


def title_of(model: PublishedModel) -> str:
    """A model's name for people: `cait_xxs24_224` is CaiT-XXS24 at 224 pixels."""
    return f"{short_title_of(model)} at {model.geometry.image_size} pixels"


def short_title_of(model: PublishedModel) -> str:
    """The name without the image size: CaiT-XXS24, or `pets`, CaiT-XXS24."""
    name, _, rest = model.variant.partition("_")
    network = f"{'CaiT' if name == 'cait' else name}-{rest.partition('_')[0].upper()}"
    return f"`{model.base_name}`, {network}" if model.has_own_name else network


def signature_rows(head: Head, geometry: Geometry) -> list[tuple[str, str, str, str]]:
    """A row for each signature and for each of its tensors: name, dtype, shape, description."""
    rows = []
    for name, signature in signatures_for(head, geometry).items():
        rows.append((f"`{name}`", "", "", signature.text))
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            rows += [
                (f"{kind} `{tensor.name}`", tensor.dtype, _shape(tensor, geometry), tensor.text)
                for tensor in tensors
            ]
    return rows


def _shape(tensor: TensorContract, geometry: Geometry) -> str:
    sizes: Sequence[int | None] = tensor.resolve(geometry)
    text = ", ".join("B" if size is None else str(size) for size in sizes)
    return f"({text},)" if len(sizes) == 1 else f"({text})"


def _sibling(model: PublishedModel) -> str:
    return model.base_name if model.head == "features" else f"{model.base_name}_fe"
