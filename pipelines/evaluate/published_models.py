"""The classifiers of a published tree."""

from collections.abc import Collection

from export.errors import UserError
from serving_configs import MANIFEST, Manifest, ManifestError, parse_manifest
from serving_configs.tree.paths import SAVED_MODEL

from ..store.base import Store, open_store, read
from .scores import ServedModel


def find_classifiers(
    serving_root: str, variants: Collection[str] | None, versions: Collection[int] | str
) -> tuple[ServedModel, ...]:
    """Finds the published classifiers, by the manifests of their versions.

    Args:
        serving_root: directory with a base path for each model, or its URL.
        variants: names of those to take, or of their variants; None for all.
        versions: numbers of those to take, or `latest` or `all`.

    Raises:
        UserError: there is none of them, or a manifest cannot be used.
    """
    store = open_store(serving_root)
    models = store.children("")
    if not models:
        raise UserError(
            f"--models {serving_root}: no such directory; expected <publish_to>/serving of "
            "pipelines.publish"
        )
    found: list[ServedModel] = []
    with_versions: list[str] = []
    features: set[str] = set()
    for model in models:
        numbers = [name for name in store.children(model) if name.isdecimal()]
        numbers = [n for n in numbers if SAVED_MODEL in store.children(f"{model}/{n}")]
        with_versions += [model] if numbers else []
        for number in _chosen(sorted(map(int, numbers)), versions):
            manifest = _manifest(store, f"{model}/{number}/{MANIFEST}")
            if manifest is not None and manifest.head == "features":
                features.add(model)
            # A directory without one was put there by another program.
            if (
                manifest is not None
                and manifest.head == "classifier"
                and (variants is None or {model, manifest.variant} & set(variants))
            ):
                found.append(
                    ServedModel(
                        model,
                        number,
                        manifest.variant,
                        serving_root,
                        manifest.content,
                        manifest.files,
                        # Nearly all weights are used once for each patch.
                        manifest.parameters * manifest.geometry.patches / 1e9,
                        manifest.published is not None,
                        manifest.geometry.num_classes,
                        manifest.labels or (),
                        manifest.checkpoint.trained,
                    )
                )
    if not with_versions and "serving" in models:
        raise UserError(
            f"--models {serving_root}: the root of a published tree; expected its directory serving"
        )
    missing = set(variants or ()) - {
        name for model in found for name in (model.name, model.variant)
    }
    if missing or not found:
        what = ", ".join(sorted(missing)) or "any variant"
        extractors = sorted(missing & features)
        if extractors:
            raise UserError(
                f"--variants {extractors[0]}: a feature extractor, which has no classes; expected "
                "classifiers"
            )
        raise UserError(
            f"--models {serving_root}: no published classifier of {what} among the chosen "
            f"versions of {', '.join(with_versions) or 'no model'}; expected <model>/<version> "
            "directories as pipelines.publish writes them"
        )
    return tuple(found)


def _chosen(numbers: list[int], versions: Collection[int] | str) -> list[int]:
    if versions == "latest":
        return numbers[-1:]
    return [number for number in numbers if versions == "all" or number in versions]


def _manifest(store: Store, path: str) -> Manifest | None:
    try:
        return parse_manifest(read(store, path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ManifestError) as error:
        raise UserError(
            f"{store.address(path)}: cannot be read ({error}); expected a manifest as "
            "pipelines.publish writes it"
        ) from None
