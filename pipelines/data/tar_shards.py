"""WebDataset's shards: tar files in which an image and its `.cls` share a name."""

import contextlib
import pathlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterator

from export.errors import UserError
from signatures.other_formats import SUFFIXES

from .found import FoundImage
from .gzipped import is_gzipped, uncompressed
from .labels import class_of_text

_IMAGES = (".jpg", ".jpeg", ".png", *SUFFIXES)
_LABEL = ".cls"
_BLOCK = 512


def read_tar(path: pathlib.Path, where: str, first: int | None) -> Iterator[FoundImage]:
    """Reads a shard; see `FileReader`. It may be compressed with gzip."""
    with _uncompressed(path, where) as plain:
        key, sample = "", dict[str, bytes]()
        seen = set[str]()
        for name, content in _members(plain, where):
            folder, _, base = name.rpartition("/")
            base, dot, suffix = base.partition(".")
            of = f"{folder}/{base}" if folder else base
            if of != key:
                if sample:
                    yield _image(key, sample, where, first)
                if of in seen:
                    raise UserError(
                        f"{where}: the files of {of!r} do not stand together; expected a tar file "
                        "made with --sort=name"
                    )
                seen.add(of)
                key, sample = of, {}
            if (dot + suffix).lower() in sample:
                raise UserError(f"{where}: two files of {of!r} are named {dot}{suffix}")
            sample[(dot + suffix).lower()] = content
        if sample:
            yield _image(key, sample, where, first)


def _image(key: str, sample: dict[str, bytes], where: str, first: int | None) -> FoundImage:
    place = f"sample {key}"
    images = [suffix for suffix in sample if suffix in _IMAGES]
    if len(images) != 1:
        raise UserError(
            f"{where}: {place} has {len(images) or 'no'} images (found: {', '.join(sample)}); "
            f"expected one of {', '.join(_IMAGES)}, and {_LABEL}"
        )
    label = None
    if _LABEL in sample:
        text = sample[_LABEL].decode("utf-8", "replace")
        label = class_of_text(text, first, f"{where}: {place} has {_LABEL}")
    return FoundImage(f"{key}{images[0]}", sample[images[0]], label, place, _LABEL)


def _members(path: pathlib.Path, where: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files, in their order.

    Raises:
        UserError: the archive is damaged, cut off, or goes on behind its end.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                base = member.name.rsplit("/", 1)[-1]
                # A Mac's notes about a file, and WebDataset's own about the shard.
                hidden = base.startswith(".") or (base.startswith("__") and base.endswith("__"))
                opened = None if hidden else tar.extractfile(member)
                if opened is not None:
                    with opened:
                        yield member.name, opened.read()
            # A header that is cut off, or a second archive behind the first, is the end to tarfile.
            file.seek(tar.offset)
            rest = file.read(_BLOCK)
            while rest and not rest.strip(b"\0"):
                block = file.read(1 << 20)
                if not block:
                    return
                rest = block
            what = "goes on behind its end" if rest else "has no end"
            raise UserError(f"{where}: the tar file {what}; expected a whole one, and only one")
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{where}: not a whole tar file ({error})") from None


@contextlib.contextmanager
def _uncompressed(path: pathlib.Path, where: str) -> Iterator[pathlib.Path]:
    """The file itself, or a copy for as long as the block runs."""
    if not is_gzipped(path):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="cait-") as copy:
        with uncompressed(path, where) as stream:
            shutil.copyfileobj(stream, copy, 1 << 20)
        copy.flush()
        yield pathlib.Path(copy.name)
