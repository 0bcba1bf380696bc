"""What a publish run that did not come to its end has published."""

from collections.abc import Iterable

from serving_configs.tree.paths import SERVING

from ..elements import ConvertTask
from ..store.base import Store
from ..store.release import read_manifests


def models_of(tasks: Iterable[ConvertTask]) -> list[str]:
    """The names of the models that a run publishes."""
    return [task.variant.model_name(head) for task in tasks for head in task.heads]


def published_in_words(store: Store, run: str, tasks: Iterable[ConvertTask]) -> str:
    """What a run has published by now, in words.

    Args:
        store: of the tree.
        run: the run's name.
        tasks: what it publishes.
    """
    present = store.children(SERVING)
    models = models_of(tasks)
    done = [
        f"{model} {version}"
        for model in models
        if model in present
        for version, manifest in read_manifests(store, model).items()
        if manifest is not None and manifest.run == run
    ]
    return f"published: {', '.join(done)}" if done else "nothing was published"
