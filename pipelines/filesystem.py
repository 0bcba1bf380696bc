"""Files on Beam's filesystems, whose errors are OSErrors here.

Every filesystem has errors of its own, and raises them when a file is opened as well as when it is
read: an object may be replaced or removed meanwhile, and a connection may break.
"""

import contextlib
import errno
import io
import os
from typing import Any, BinaryIO, cast

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

BLOCK_BYTES = 8 << 20
"""How much of a file is read at a time where all of it is."""


def open_file(address: str) -> BinaryIO:
    """Opens a file for reading, as it is: compressed content stays compressed.

    Args:
        address: its path or its URL.

    Raises:
        FileNotFoundError: it is not there.
        OSError: it cannot be read; reading from what is returned raises it too.
    """
    try:
        file = FileSystems.open(address, compression_type=CompressionTypes.UNCOMPRESSED)
    except Exception as error:
        if isinstance(error, FileNotFoundError) or not _exists(address):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), address) from None
        raise _unreadable(address, error) from error
    # What reads an archive or a table asks for a few bytes at a time.
    return cast(BinaryIO, io.BufferedReader(_OpenedFile(address, file), 1 << 20))


class _OpenedFile(io.RawIOBase):
    """An opened file. All of its errors are OSErrors."""

    def __init__(self, address: str, file: Any) -> None:
        self._address = address
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._file.read(len(buffer))
        except OSError:
            raise
        except Exception as error:
            raise _unreadable(self._address, error) from error
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            # Nothing was written, so nothing is lost.
            with contextlib.suppress(Exception):
                self._file.close()
        super().close()


def _unreadable(address: str, error: Exception) -> OSError:
    return OSError(f"{address}: cannot be read ({' '.join(str(error).split())})")


def _exists(address: str) -> bool:
    with contextlib.suppress(Exception):  # Then it is the first error that tells.
        return bool(FileSystems.exists(address))
    return True
