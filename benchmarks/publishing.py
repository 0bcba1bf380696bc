"""Publishers to kill, and a reader that looks at the tree all the while, each a process.

A publisher does what the pipeline does with a model that passed the gate: it stages a copy in its
part of the staging area and releases it. It is started from a server of forks that has everything
imported, so that hundreds of them are a matter of minutes.
"""

import dataclasses
import multiprocessing
import multiprocessing.connection
import pathlib
import random
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.store.base import Store
from pipelines.store.local import LocalStore
from pipelines.verify import version_problems
from tests.support.publishers import Tree, publish

_STORE_SECONDS = 1.0
_MODULES = ("benchmarks.publishing", "pipelines.store.beam")


def write_model(directory: pathlib.Path, padding: int) -> pathlib.Path:
    """Writes a small SavedModel that loads, with a file of `padding` bytes beside its variables."""
    import tensorflow as tf

    class Half(tf.Module):
        def __init__(self) -> None:
            self.weight = tf.Variable(0.5)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            return self.weight * images

    tf.saved_model.save(Half(), str(directory))
    (directory / "assets").mkdir(exist_ok=True)
    (directory / "assets" / "padding").write_bytes(random.Random(0).randbytes(padding))
    return directory


def processes() -> Any:
    """Starts processes by fork, from one that has imported everything and runs no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_MODULES))
    return context


class Publisher:
    """A publisher in a process of its own.

    Args:
        arguments: of `publish`.
    """

    def __init__(self, *arguments: Any) -> None:
        context = processes()
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_run_publisher, args=(theirs, *arguments))
        self._process.start()
        theirs.close()
        self._connection.recv()
        self._started = time.monotonic()

    def finish(self) -> list[int]:
        """Waits for the end.

        Raises:
            RuntimeError: it failed; the message is the process's.
        """
        versions = self._connection.recv()
        self._process.join()
        self.seconds = time.monotonic() - self._started
        if isinstance(versions, str):
            raise RuntimeError(versions)
        return list(versions)

    def kill(self, seconds: float) -> bool:
        """Kills it that long after it began, in the middle of whatever it does.

        Returns:
            Whether it was still at work.
        """
        time.sleep(max(0.0, self._started + seconds - time.monotonic()))
        self._process.kill()
        self._process.join()
        return bool(self._process.exitcode != 0)


def _run_publisher(connection: multiprocessing.connection.Connection, *arguments: Any) -> None:
    connection.send("started")
    try:
        connection.send(publish(*arguments))
    except BaseException:
        connection.send(traceback.format_exc())


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a reader saw.

    Attributes:
        polls: how often it looked.
        versions: versions that it read from end to end.
        incomplete: what was wrong, a line for each; there should be none.
    """

    polls: int
    versions: int
    incomplete: tuple[str, ...]


class Poller:
    """A reader in a process of its own, which polls a tree as TF Serving does, but more often.

    Args:
        tree: what to look at.
        files: files of the model that is published, but for the manifest.
        load: whether to load every version with TensorFlow, too.
    """

    def __init__(self, tree: Tree, files: Sequence[str], load: bool) -> None:
        # Not by fork: it needs TensorFlow, which the publishers should not have.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_poll, args=(theirs, tree, tuple(files), load))
        self._process.start()
        theirs.close()
        self._connection.recv()

    def stop(self) -> Seen:
        """Lets it look once more, and ends it.

        Raises:
            RuntimeError: it failed; the message is the process's.
        """
        self._connection.send("stop")
        seen = self._connection.recv()
        self._process.join()
        if isinstance(seen, str):
            raise RuntimeError(seen)
        assert isinstance(seen, Seen)
        return seen


def _poll(
    connection: multiprocessing.connection.Connection,
    tree: Tree,
    files: tuple[str, ...],
    load: bool,
) -> None:
    try:
        store = tree.open()
        if load:
            import tensorflow
        connection.send("started")
        polls, done, incomplete = 0, set[str](), list[str]()
        last = False
        while not last:
            # A disk stands it to be asked without a pause; a store on two cores has more to do.
            last = connection.poll(0.0 if isinstance(store, LocalStore) else _STORE_SECONDS)
            polls += 1
            for model, name, seen in _directories(store):
                path = f"serving/{model}/{name}"
                if not name.isdecimal() or path in done:
                    continue
                found = _look(store, model, name, files, seen)
                if found is None:
                    continue
                incomplete += [f"{path}: {problem}" for problem in found]
                if load and isinstance(store, LocalStore):
                    tensorflow.saved_model.load(store.address(path))
                done.add(path)
        connection.send(Seen(polls, len(done), tuple(incomplete)))
    except BaseException:
        connection.send(traceback.format_exc())


def _directories(store: Store) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Model, name and files of every directory; no files where they are put in place at once."""
    if isinstance(store, LocalStore):
        for model in store.children("serving"):
            for name in store.children(f"serving/{model}"):
                yield model, name, frozenset()
        return
    # One listing: what is in it was there at one instant.
    found: dict[tuple[str, str], set[str]] = {}
    for path in store.sizes("serving"):
        model, name, file = path.split("/", 2)
        found.setdefault((model, name), set()).add(file)
    for (model, name), files in found.items():
        yield model, name, frozenset(files)


def _look(
    store: Store, model: str, name: str, files: Sequence[str], seen: frozenset[str]
) -> list[str] | None:
    """What is wrong with a version; None while it is no version yet, where that can be."""
    if not isinstance(store, LocalStore) and "assets.extra/manifest.json" not in seen:
        if "saved_model.pb" not in seen:
            return None
        missing = [file for file in files if file not in seen]
        return [f"saved_model.pb before {file}" for file in missing] or None
    # Renamed into place, a directory is a version from the first instant.
    return version_problems(store, model, name)


def new_content() -> str:
    """A text that was not published before."""
    return uuid.uuid4().hex
