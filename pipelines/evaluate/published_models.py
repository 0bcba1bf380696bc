"""The classifiers of a published tree."""

from collections.abc import Collection, Mapping

from export.errors import UserError
from serving_configs import MANIFEST, Manifest, ManifestError, parse_manifest
from serving_configs.errors import ConfigError
from serving_configs.server.models_config import labels_of, parse_models_config
from serving_configs.tree.paths import MODELS_CONFIG, SAVED_MODEL

from ..store.base import Store, open_store, read
from .scores import ServedModel


def find_classifiers(
    serving_root: str, variants: Collection[str] | None, versions: Collection[int | str] | str
) -> tuple[ServedModel, ...]:
    """Finds the published classifiers, by the manifests of their versions.

    Args:
        serving_root: directory with a base path for each model, or its URL.
        variants: names of those to take, or of their variants; None for all.
        versions: numbers or labels of those to take, or `latest` or `all`.

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
    labels = _labels(store, versions)
    found: list[ServedModel] = []
    with_versions: list[str] = []
    features: set[str] = set()
    for model in models:
        numbers = [name for name in store.children(model) if name.isdecimal()]
        numbers = [n for n in numbers if SAVED_MODEL in store.children(f"{model}/{n}")]
        with_versions += [model] if numbers else []
        for number in _chosen(sorted(map(int, numbers)), versions, labels.get(model, {})):
            manifest = _manifest(store, f"{model}/{number}/{MANIFEST}")
            if manifest is not None and manifest.head == "features":
                features.add(model)
            # A directory without one was put there by another program.
            if (
                manifest is not None
                and manifest.head == "classifier"
                and (variants is None or {model, manifest.variant} & set(variants))
            ):
                found.append(_served(model, number, serving_root, manifest))
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


def _served(model: str, number: int, serving_root: str, manifest: Manifest) -> ServedModel:
    return ServedModel(
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


def _chosen(
    numbers: list[int], versions: Collection[int | str] | str, labels: Mapping[str, int]
) -> list[int]:
    if versions == "latest":
        return numbers[-1:]
    if versions == "all":
        return numbers
    chosen = {labels.get(version) if isinstance(version, str) else version for version in versions}
    return [number for number in numbers if number in chosen]


def _labels(store: Store, versions: Collection[int | str] | str) -> dict[str, dict[str, int]]:
    """Model -> label -> version, by the tree's `models.config`; nothing where no label is named.

    Raises:
        UserError: the file cannot be used, or has none of a label.
    """
    named = () if isinstance(versions, str) else [v for v in versions if isinstance(v, str)]
    if not named:
        return {}
    name = MODELS_CONFIG.rpartition("/")[2]
    try:
        config = parse_models_config(read(store, name), store.address(name))
    except (OSError, ConfigError) as error:
        raise UserError(
            f"--versions {named[0]}: a label, which models.config has: {error}"
        ) from None
    found = {entry.name: labels_of(entry) for entry in config.model_config_list.config}
    known = {label for labels in found.values() for label in labels}
    for label in named:
        if label not in known:
            raise UserError(
                f"--versions: {label!r}; expected 'latest', 'all', numbers or labels of "
                f"{store.address(name)}, which has {', '.join(sorted(known)) or 'none'}"
            )
    return found


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
