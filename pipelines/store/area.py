"""Small whole objects in a store that the steps of a run leave for one another."""

import dataclasses

from .base import Store, open_store, read


@dataclasses.dataclass(frozen=True)
class Area:
    """A part of a store, which every worker of a run reads and writes. It travels to them.

    Attributes:
        root: of the store, a directory or a URL.
        path: of the area, below the root; empty for all of it.
    """

    root: str
    path: str

    @property
    def store(self) -> Store:
        """The store."""
        return open_store(self.root)

    def write(self, name: str, content: bytes) -> None:
        """Puts an object in place, whole, over one that may be there.

        Raises:
            OSError: it cannot be written.
        """
        self.store.write(self._at(name), content)

    def read(self, name: str) -> bytes | None:
        """An object, or None where there is none.

        Raises:
            OSError: it cannot be read.
        """
        try:
            return read(self.store, self._at(name))
        except FileNotFoundError:
            return None

    def names(self, directory: str) -> list[str]:
        """Names of the objects directly below a path."""
        return self.store.children(self._at(directory))

    def remove(self) -> None:
        """Removes all of it.

        Raises:
            OSError: an object cannot be removed.
        """
        self.store.remove(self.path)

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name
