"""A published tree as a release sees it, on a local disk or on any of Beam's filesystems.

Paths are relative to the root, with `/` between their parts, as `serving_configs.tree` makes them.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import BinaryIO, Protocol

from serving_configs.tree.files import Foreign
from signatures.addresses import is_url


class Store(Protocol):
    """Where a published tree lies."""

    def address(self, path: str) -> str:
        """The path as a user names it."""

    def children(self, path: str) -> list[str]:
        """Names directly below a path, sorted; none where there is nothing."""

    def sizes(self, path: str) -> dict[str, int]:
        """Every file below a path, by its path from there -> its size in bytes."""

    def foreign(self, path: str) -> tuple[Foreign, ...]:
        """What is at and below a path that no publish run leaves there: see `foreign_entries`.

        Nothing on an object store, which has neither links nor permissions nor directories.

        Raises:
            OSError: a directory cannot be read.
        """

    def open(self, path: str) -> BinaryIO:
        """Opens a file for reading.

        Raises:
            OSError: it is not there or cannot be read; reading from what is returned raises it too.
        """

    def write(self, path: str, content: bytes) -> None:
        """Puts a file in place, whole, over one that may be there.

        Raises:
            OSError: it cannot be written.
        """

    def put_directory(self, directory: pathlib.Path, path: str) -> None:
        """Moves the files of a directory to a path that nothing is at.

        Args:
            directory: where it is now; on the tree's own filesystem if that is a disk.
            path: where to.

        Raises:
            OSError: they cannot be written.
        """

    def put_version(
        self, staged: str, names: Sequence[str], path: str, extra: Mapping[str, bytes]
    ) -> bool:
        """Puts a version in place, so that no reader ever takes half of it for a version.

        Args:
            staged: path of the staged model. Its files stay as they are.
            names: the files, by their paths from there.
            path: where to, such as `serving/<model>/<version>`.
            extra: further files of the version, the manifest among them.

        Returns:
            False when another publisher took the path; nothing was changed then.

        Raises:
            OSError: it cannot be written; what was written is gone again, or no version to any
                reader.
        """

    def remove_version(self, path: str, aside: str) -> None:
        """Takes a version away, so that no reader ever takes what is left for a version.

        Args:
            path: the version.
            aside: path of the run's staging directory.
        """

    def remove(self, path: str) -> None:
        """Removes a file, or all files below a path; they may be gone already.

        Raises:
            OSError: one cannot be removed.
        """

    def clean(self, ttl: float) -> None:
        """Removes what publishers that died left behind, once it is older than `ttl` seconds."""

    def require_writable(self) -> None:
        """Tries whether files can be put there, and leaves none.

        Raises:
            UserError: they can't.
        """


def open_store(root: str) -> Store:
    """The store of a tree.

    Args:
        root: a local path, or a URL of one of Beam's filesystems.

    Raises:
        UserError: there is no such filesystem.
    """
    if not is_url(root):
        from .local import LocalStore

        return LocalStore(root)
    # Here, because a publisher to a local disk has no need of Beam's filesystems.
    from .beam import BeamStore

    return BeamStore(root)


def read(store: Store, path: str) -> bytes:
    """The whole of a small file.

    Raises:
        OSError: it is not there or cannot be read.
    """
    with store.open(path) as file:
        return file.read()
