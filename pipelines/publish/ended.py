"""What a publish run says that did not come to its end."""

import contextlib
from collections.abc import Iterator, Sequence

from serving_configs.tree.paths import SERVING

from ..runtime.endings import AGAIN, told
from ..store.base import Store
from ..store.release import read_manifests


@contextlib.contextmanager
def tells_what_is_published(store: Store, run: str, models: Sequence[str]) -> Iterator[None]:
    """Says of a run that is interrupted, or ends at a full disk, what it has published.

    Args:
        store: of the tree.
        run: the run's name.
        models: names of the models that it publishes.

    Raises:
        Interrupted: as it was, with what is left in words.
        JobError: the disk is full.
    """
    with told(lambda: _in_words(store, run, models), store.address("")):
        yield


def _in_words(store: Store, run: str, models: Sequence[str]) -> str:
    done = [
        f"{model} {version}"
        for model in models
        if model in store.children(SERVING)
        for version, manifest in read_manifests(store, model).items()
        if manifest is not None and manifest.run == run
    ]
    # Those of an earlier run are not among them: it has said so itself.
    published = f"published by this run: {', '.join(done)}" if done else "nothing was published"
    return f"{published}; {AGAIN} to publish the rest"
