"""Copies of directories of a store on the disk of the host that reads them."""

import contextlib
import os
import pathlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Sequence

from serving_configs import FileRecord, record_files
from serving_configs.tree.files import difference

from ..filesystem import BLOCK_BYTES
from .base import Store

_KEPT_SECONDS = 24 * 3600.0
"""How long copies stay that no run has ended beside."""


class HostCache:
    """The copies that the workers of a host share.

    Args:
        scratch: the directory for them; None for the system's.
    """

    def __init__(self, scratch: str | None = None) -> None:
        top = pathlib.Path(scratch or tempfile.gettempdir())
        self._root = top / f"cait-models-{os.getuid()}"

    def fetch(
        self, store: Store, path: str, files: Sequence[FileRecord], name: str
    ) -> pathlib.Path:
        """A directory of a store on this disk. Not to be written to.

        Args:
            store: the store.
            path: the directory there.
            files: what is in it.
            name: of the copy, such as `<run>/<model>`; of the same content it is the same.

        Raises:
            OSError: it cannot be read, or is not what was put there.
        """
        target = self._root / name
        if target.is_dir():
            # What is in use is not old, however long ago it was fetched.
            os.utime(self._root / name.split("/")[0])
            return target
        self._remove_old()
        # Below the run's name: it goes with the run where its worker is killed.
        copy = self.new_directory(name.split("/")[0])
        try:
            for file in files:
                (copy / file.path).parent.mkdir(parents=True, exist_ok=True)
                with (
                    store.open(f"{path}/{file.path}") as source,
                    open(copy / file.path, "wb") as copied,
                ):
                    shutil.copyfileobj(source, copied, BLOCK_BYTES)
            if problems := difference(files, record_files(copy)):
                raise OSError(f"{store.address(path)}: {problems[0]}")
            self.keep(copy, name)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        return target

    def new_directory(self, run: str) -> pathlib.Path:
        """A path for a directory that no reader takes for a copy, and that goes with a run.

        Args:
            run: first part of the names of the run's copies.

        Raises:
            OSError: the run's directory cannot be made.
        """
        directory = self._root / run
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f".{uuid.uuid4().hex}"

    def keep(self, directory: pathlib.Path, name: str) -> None:
        """Moves a directory of the same filesystem into the cache, unless it has one of the name.

        Raises:
            OSError: it cannot be moved.
        """
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            directory.rename(target)
        except OSError:
            if not target.is_dir():
                raise

    def remove(self, name: str) -> None:
        """Removes the copies below a name."""
        shutil.rmtree(self._root / name, ignore_errors=True)

    def _remove_old(self) -> None:
        # Runs, and what killed workers left of copies.
        for entry in (*self._root.glob("*"), *self._root.glob("*/.*")):
            with contextlib.suppress(OSError):  # Another worker removes it too.
                if entry.stat().st_mtime < time.time() - _KEPT_SECONDS:
                    shutil.rmtree(entry, ignore_errors=True)
