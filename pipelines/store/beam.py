"""The published tree on a filesystem of Beam's, none of which puts a directory in place at once.

What keeps readers from half a version is the order of writing: `saved_model.pb` after everything
else, because TF Serving loads whatever it finds in a directory with one, and the manifest after
that, because our readers take a directory without one for no version.

What keeps two publishers from one number is a claim: an object that is written first, after which
all claims of the number are listed. Who finds another's claim beside its own takes its own back and
tries again, later or higher. Where a listing shows every object that was written before it (Amazon
S3, Google Cloud Storage, Azure Blob Storage and HDFS all say so), no two publishers ever both find
themselves alone. Two limits:

- A claim that is older than the time to live is taken for a dead publisher's. A live one renews
  its claim between files and stops when it is gone; one that is held up for longer than that
  within a single file could still finish it beside another.
- Two publishers of the same content at the same moment may both publish it, under two numbers.
"""

import contextlib
import functools
import glob
import importlib
import importlib.util
import pathlib
import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, S3Options

from export.errors import UserError
from serving_configs import MANIFEST
from serving_configs.tree.files import Foreign
from serving_configs.tree.paths import SAVED_MODEL, SERVING, STAGING, version_path

from ..filesystem import BLOCK_BYTES, open_file

CLAIMS = f"{STAGING}/claims"
"""Where the claims are: `<model>/<version>/<publisher>` below it."""

_LAST = (SAVED_MODEL, str(MANIFEST))
_RETRY_SECONDS = 0.5
_RENEW_SECONDS = 10.0
# Something, because Beam does not write empty objects to S3.
_CLAIM = b"claimed\n"


class ClaimLostError(OSError):
    """Another run took this publisher for dead."""


@functools.cache
def _require_credentials(root: str) -> None:
    """Looks for credentials before the first call, which Beam would repeat for minutes.

    Raises:
        UserError: boto3 finds none, and Beam's flags have none.
    """
    import boto3

    options: PipelineOptions | None = FileSystems._pipeline_options
    if options is not None and options.view_as(S3Options).s3_access_key_id:
        return
    if boto3.Session().get_credentials() is None:
        raise UserError(
            f"{root}: no credentials for it here; expected AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY in the environment of the job and of every worker, or the role "
            "of the machine"
        )


class BeamStore:
    """A tree on one of Beam's filesystems.

    Args:
        root: its URL.

    Raises:
        UserError: Beam has no filesystem for it, or this process has no credentials for it.
    """

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")
        try:
            FileSystems.get_filesystem(self._root)
        except ValueError as error:
            raise UserError(f"--publish_to {root}: {error}") from None
        # Beam finds this out at the first call, by an assertion.
        if root.startswith("s3://") and importlib.util.find_spec("boto3") is None:
            raise UserError(
                f"--publish_to {root}: boto3 is not installed; run pip install 'cait-serving[s3]'"
            )
        if root.startswith("s3://"):
            _read_descriptions_once()
            _require_credentials(self._root)

    def address(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def children(self, path: str) -> list[str]:
        return sorted({name.split("/")[0] for name in self.sizes(path)})

    def sizes(self, path: str) -> dict[str, int]:
        return {name: entry.size_in_bytes for name, entry in self._match(path).items()}

    def foreign(self, path: str) -> tuple[Foreign, ...]:
        return ()

    def open(self, path: str) -> BinaryIO:
        return open_file(self.address(path))

    def write(self, path: str, content: bytes) -> None:
        with self._created(path) as file:
            file.write(content)

    def put_file(self, source: pathlib.Path, path: str) -> None:
        """Copies a file of a disk to a path of the tree, over one that may be there.

        Raises:
            OSError: it cannot be read or written.
        """
        with open(source, "rb") as file, self._created(path) as target:
            while block := file.read(BLOCK_BYTES):
                target.write(block)

    def put_directory(self, directory: pathlib.Path, path: str) -> None:
        for source in sorted(file for file in directory.rglob("*") if file.is_file()):
            self.put_file(source, f"{path}/{source.relative_to(directory).as_posix()}")

    def put_version(
        self, staged: str, names: Sequence[str], path: str, extra: Mapping[str, bytes]
    ) -> bool:
        claim = self._claim(path)
        if claim is None:
            return False
        try:
            renewed = time.monotonic()
            for name in sorted([*names, *extra], key=_order):
                if time.monotonic() - renewed > _RENEW_SECONDS:
                    self._renew(claim)
                    renewed = time.monotonic()
                if name in extra:
                    self.write(f"{path}/{name}", extra[name])
                else:
                    self._copy(f"{staged}/{name}", f"{path}/{name}")
        except ClaimLostError:
            # What is there may be another's by now.
            raise
        except Exception:
            self.remove_version(path)
            self._delete([claim])
            raise
        self._delete([claim])
        return True

    def remove(self, path: str) -> None:
        self._delete([f"{path}/{name}" for name in self.sizes(path)] or [path])

    def remove_version(self, path: str, aside: str = "") -> None:
        names = [f"{path}/{name}" for name in self.sizes(path)]
        # Backwards: with the manifest it stops to be a version.
        last = [f"{path}/{name}" for name in reversed(_LAST)]
        for name in last:
            self._delete([name] if name in names else [])
        self._delete([name for name in names if name not in last])

    def clean(self, ttl: float) -> None:
        now = time.time()
        for name, entry in self._match(CLAIMS).items():
            if now - entry.last_updated_in_seconds < ttl:
                continue
            model, version, _ = name.split("/")
            path = version_path(model, version)
            if str(MANIFEST) not in self.sizes(path):
                self.remove_version(path)
            self._delete([f"{CLAIMS}/{name}"])

    def remove_dead_runs(self, ttl: float) -> None:
        """Removes the staging of runs that have written nothing there for `ttl` seconds."""
        newest: dict[str, float] = {}
        for name, entry in self._match(STAGING).items():
            run, _, rest = name.partition("/")
            if rest and run != pathlib.PurePosixPath(CLAIMS).name:
                newest[run] = max(newest.get(run, 0.0), entry.last_updated_in_seconds)
        for run, updated in newest.items():
            if time.time() - updated >= ttl:
                self.remove(f"{STAGING}/{run}")

    def require_writable(self) -> None:
        # Always the same name, so that a run that is killed here leaves one file at most.
        probe = f"{STAGING}/probe"
        try:
            self.write(probe, _CLAIM)
            self._delete([probe])
        except OSError as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise UserError(
                f"--publish_to {self._root}: cannot be written ({reason}); expected a place where "
                "this account may put and remove files"
            ) from None

    def _claim(self, path: str) -> str | None:
        """Takes a version for this publisher alone: the claim's path, None when it is taken."""
        claims = f"{CLAIMS}/{path.removeprefix(f'{SERVING}/')}"
        claim = f"{claims}/{uuid.uuid4().hex}"
        self.write(claim, _CLAIM)
        # The files are looked at after the claims: who published in between removes the claim last.
        if len(self._match(claims)) == 1 and not self._match(path):
            return claim
        self._delete([claim])
        # Two that found each other should not meet again.
        time.sleep(random.uniform(0, _RETRY_SECONDS))
        return None

    def _renew(self, claim: str) -> None:
        if not FileSystems.exists(self.address(claim)):
            raise ClaimLostError(
                f"{self.address(claim)}: gone; another run took this one for dead. Publish again, "
                "with a longer --staging_ttl"
            )
        self.write(claim, _CLAIM)

    @contextlib.contextmanager
    def _created(self, path: str) -> Iterator[Any]:
        address = self.address(path)
        try:
            with FileSystems.create(
                address, compression_type=CompressionTypes.UNCOMPRESSED
            ) as file:
                yield file
        except Exception as error:  # Every filesystem has errors of its own.
            raise OSError(f"{address}: cannot be written ({error})") from error

    def _copy(self, source: str, target: str) -> None:
        """Copies a file within the tree, without it coming here where the filesystem can do so."""
        try:
            FileSystems.copy([self.address(source)], [self.address(target)])
        except Exception as error:  # Every filesystem has errors of its own.
            raise OSError(f"{self.address(target)}: cannot be written ({error})") from error

    def _match(self, path: str) -> dict[str, Any]:
        top = self.address(path)
        try:
            (result,) = FileSystems.match([f"{glob.escape(top)}/**"])
        except BeamIOError as error:
            raise OSError(f"{top}: cannot be listed ({error})") from error
        return {entry.path[len(top) + 1 :]: entry for entry in result.metadata_list}

    def _delete(self, paths: Sequence[str]) -> None:
        addresses = [self.address(path) for path in paths]
        try:
            FileSystems.delete(addresses)
        except BeamIOError as error:
            # Another run may have removed some.
            left = [address for address in addresses if FileSystems.exists(address)]
            if left:
                raise OSError(f"{left[0]}: cannot be removed ({error})") from error


def _read_descriptions_once() -> None:
    """Makes a client of S3 cost a sixth of the time.

    Beam makes one for every call, and each would read megabytes of JSON that describe the service.
    """
    session: Any = importlib.import_module("botocore.session")
    if not hasattr(session.create_loader, "cache_info"):
        session.create_loader = functools.cache(session.create_loader)


def _order(name: str) -> tuple[int, str]:
    """Sorts the files that make a directory a version behind all others."""
    return (_LAST.index(name) + 1 if name in _LAST else 0, name)
