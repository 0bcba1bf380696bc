"""Staging: what a run keeps in the store until it ends, for its workers to find.

A worker has the code, its own disk and the store; nothing else has to be shared. Below
`.staging/<run>/`:

    models/<variant>/<attempt>/<model>/...   converted models; never altered
    models/<variant>/record.json             the attempt that counts, written last
    results/, progress/, report.json         small objects, each whole

On a disk a converted model is renamed into staging and read there. On a filesystem of Beam's it is
copied there once; a worker on another host copies it to its own disk once.
"""

import contextlib
import dataclasses
import pathlib
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence

from serving_configs import FileRecord
from serving_configs.tree.paths import STAGING
from signatures.addresses import is_url
from signatures.program import removed_at_the_end

from .area import Area
from .beam import BeamStore
from .host_cache import HostCache
from .local_area import local_area

_ALIVE = "alive"
_BEATS = 4
"""How often a run says within the time to live that it is alive."""


@dataclasses.dataclass(frozen=True)
class Staging(Area):
    """A run's part of the staging area.

    Attributes:
        scratch: a directory on the disk of each worker, for models while they are made or read;
            None for the system's. A tree on a disk needs none.
    """

    scratch: str | None = None

    @property
    def run(self) -> str:
        """The run's name, which no other run has."""
        return pathlib.PurePosixPath(self.path).name

    @contextlib.contextmanager
    def directory(self) -> Iterator[pathlib.Path]:
        """A new directory on this worker's disk; what is still in it at the end goes.

        Raises:
            OSError: it cannot be made.
        """
        if is_url(self.root):
            directory = self._cache.new_directory(self.run)
        else:
            directory = pathlib.Path(self.root, self.path, uuid.uuid4().hex)
        directory.mkdir(parents=True)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def put_directory(self, directory: pathlib.Path, path: str) -> None:
        """Moves a directory within `directory()` to a path of the area that nothing is at.

        Raises:
            OSError: it cannot be written.
        """
        self.store.put_directory(directory, f"{self.path}/{path}")
        if is_url(self.root):
            # A later step on this host need not fetch it.
            self._cache.keep(directory, f"{self.run}/{path}")

    def fetch(self, path: str, files: Sequence[FileRecord]) -> pathlib.Path:
        """A directory of the area on this worker's disk. Not to be written to.

        Args:
            path: the directory.
            files: what is in it.

        Raises:
            OSError: it cannot be read, or is not what was put there.
        """
        if not is_url(self.root):
            return pathlib.Path(self.root, self.path, path)
        return self._cache.fetch(self.store, f"{self.path}/{path}", files, f"{self.run}/{path}")

    def remove_copies(self) -> None:
        """Removes what this host keeps of the run."""
        self._cache.remove(self.run)

    @property
    def _cache(self) -> HostCache:
        return HostCache(self.scratch)


@contextlib.contextmanager
def staging_area(root: str, ttl: float, scratch: str | None = None) -> Iterator[Staging]:
    """A run's staging, which is gone afterwards; so is the staging area if nothing is in it.

    Args:
        root: of the tree, a directory or a URL.
        ttl: seconds after which what dead runs left behind is removed.
        scratch: see `Staging`.

    Raises:
        OSError: it can't be written.
    """
    if not is_url(root):
        with local_area(pathlib.Path(root, STAGING), ttl) as directory:
            yield Staging(root, f"{STAGING}/{directory.name}")
        return
    staging = Staging(root, f"{STAGING}/{uuid.uuid4().hex}", scratch)
    store = BeamStore(root)
    store.remove_dead_runs(ttl)
    ended = threading.Event()

    def stay_alive() -> None:
        while not ended.wait(max(1.0, ttl / _BEATS)):
            # A beat that fails is made up by the next one.
            with contextlib.suppress(OSError):
                staging.write(_ALIVE, b"alive\n")

    staging.write(_ALIVE, b"alive\n")
    thread = threading.Thread(target=stay_alive, daemon=True)

    def remove() -> None:
        ended.set()
        thread.join()
        store.remove(staging.path)
        staging.remove_copies()

    with removed_at_the_end(remove):
        thread.start()
        yield staging
