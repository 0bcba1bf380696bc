"""Files that are compressed with gzip."""

import contextlib
import gzip
import pathlib
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from export.errors import UserError


def is_gzipped(path: pathlib.Path) -> bool:
    """Whether a file says so of itself."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextlib.contextmanager
def uncompressed(path: pathlib.Path, where: str) -> Iterator[BinaryIO]:
    """Gives what is in a compressed file.

    Args:
        path: the file.
        where: it, as the error's first words.

    Raises:
        UserError: what the block reads is cut off or damaged.
    """
    try:
        with gzip.open(path) as stream:
            yield cast(BinaryIO, stream)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{where}: cut off or damaged ({error}); expected a whole file, compressed with gzip"
        ) from None
