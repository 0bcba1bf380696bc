"""Which format a file of images has, by its content: names of files say many things."""

import pathlib
import tarfile

from export.errors import UserError

from .found import FileReader
from .gzipped import is_gzipped, uncompressed
from .parquet import read_parquet
from .records import read_records
from .tar_shards import read_tar

EXPECTED = (
    "TFRecord files of tf.train.Example, plain or compressed with gzip, Parquet files or "
    "WebDataset's tar files"
)

# Other formats, for messages: their first bytes.
_OTHERS = {
    b"PK\x03\x04": "a zip file",
    b"\xff\xd8\xff": "a JPEG",
    b"\x89PNG": "a PNG",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"ARROW1": "an Arrow file",
    b"\xff\xff\xff\xff": "an Arrow stream",
    b"\x28\xb5\x2f\xfd": "a file compressed with zstd",
    b"BZh": "a file compressed with bzip2",
    b"\xfd7zXZ": "a file compressed with xz",
    b"\x80\x04": "a pickle",
    b"SQLite": "an SQLite database",
}
_HEAD_BYTES = 512


def reader_of(path: pathlib.Path, where: str) -> FileReader:
    """The reader of a file.

    Args:
        path: the file, on this host's disk.
        where: what to call it in messages.

    Raises:
        UserError: it is of no known format. The message says what was found.
        OSError: it cannot be read.
    """
    head, compressed = _head(path, where)
    if _is_tar(head):
        return read_tar
    if head.startswith(b"PAR1") and not compressed:
        return read_parquet
    if _is_record(head):
        return read_records
    found = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), None)
    if found is None and head and b"\0" not in head[:8]:
        found = f"record 0 cannot be read (the file begins with {head[:24]!r})"
    if head.startswith(b"PAR1"):
        found = "a Parquet file"
    if found is not None:
        inside = ", compressed with gzip" if compressed else ""
        raise UserError(f"{where}: {found}{inside}; expected {EXPECTED}")
    return read_records


def _is_record(head: bytes) -> bool:
    """Whether a TFRecord file begins like this.

    The first record's length, in 8 bytes, may be as any other format's first bytes. But below 4 GiB
    the high ones are zeros, and the checksum of the length comes next. A pickle has zeros there.
    """
    return head[4:8] == bytes(4) and head[8:11] != bytes(3)


def _is_tar(head: bytes) -> bool:
    # Every header has a checksum, and old ones have no name of the format.
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _head(path: pathlib.Path, where: str) -> tuple[bytes, bool]:
    """The first bytes of a file, uncompressed, and whether it is compressed with gzip."""
    if not is_gzipped(path):
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES), False
    with uncompressed(path, where) as stream:
        return stream.read(_HEAD_BYTES), True
