"""What is published without a pipeline: a copy of a model, to a disk or to an object store."""

import contextlib
import dataclasses
import logging
import pathlib
import shutil
import uuid
from collections.abc import Iterator, Sequence

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.store.base import Store, open_store
from pipelines.store.release import StagedFiles, release
from pipelines.store.staging import staging_area
from serving_configs import Manifest, Weights, contract_digest, record_files
from signatures import Geometry

MODELS = ("cait_one", "cait_two")
GEOMETRY = Geometry(32, 4, 2, 16, 10, 2, 2)


@dataclasses.dataclass(frozen=True)
class Tree:
    """Where is published to.

    Attributes:
        root: a directory, or a URL.
        options: Beam's flags for the filesystem.
    """

    root: str
    options: tuple[str, ...] = ()

    def open(self) -> Store:
        """Its store, for this process."""
        FileSystems.set_options(PipelineOptions(list(self.options)))
        return open_store(self.root)


def local_tree(root: pathlib.Path) -> Tree:
    """A tree on a disk."""
    return Tree(str(root))


@contextlib.contextmanager
def object_store() -> Iterator[Tree]:
    """A tree in a bucket of an S3-compatible server on this machine, kept in memory."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    # A new one: the stand-in for S3 keeps its buckets as long as the process lives.
    bucket = f"published-{uuid.uuid4().hex}"
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
            region_name="us-east-1",
        ).create_bucket(Bucket=bucket)
        yield Tree(
            f"s3://{bucket}/tree",
            (
                f"--s3_endpoint_url={url}",
                "--s3_access_key_id=nobody",
                "--s3_secret_access_key=nothing",
                "--s3_region_name=us-east-1",
            ),
        )
    finally:
        server.stop()


def draft(model: str, run: str, trained: bool = True) -> Manifest:
    """A manifest of a small model."""
    return Manifest(
        model=model,
        version=0,
        variant=model,
        head="classifier",
        geometry=GEOMETRY,
        parameters=1,
        checkpoint=Weights("made for a fault", "0" * 64, trained),
        contract=contract_digest("classifier", GEOMETRY),
        software={},
        files=(),
        run=run,
    )


def publish(
    tree: Tree, model: pathlib.Path, names: Sequence[str], content: str, ttl: float = 3600.0
) -> list[int]:
    """Publishes a copy of a model under each name; its content is new if `content` is.

    Args:
        tree: where to.
        model: the model's files.
        names: of the models.
        content: of a file in each.
        ttl: seconds after which what dead publishers left is removed.

    Returns:
        The versions.
    """
    versions = []
    store = tree.open()
    with staging_area(tree.root, ttl) as staging:
        store.clean(ttl)
        for name in names:
            with staging.directory() as directory:
                copy = directory / name
                shutil.copytree(model, copy)
                (copy / "assets" / "content").write_text(content, encoding="utf-8")
                files = record_files(copy)
                staging.put_directory(copy, f"models/{name}")
            staged = StagedFiles(f"{staging.path}/models/{name}", files)
            versions.append(release(store, staged, draft(name, staging.run)).version)
    return versions


def write_files(directory: pathlib.Path) -> pathlib.Path:
    """Writes files named as a SavedModel's, which nothing can load."""
    for name, size in (
        ("saved_model.pb", 50_000),
        ("fingerprint.pb", 50),
        ("variables/variables.index", 500),
        ("variables/variables.data-00000-of-00001", 200_000),
        ("assets/labels", 100),
    ):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(range(250)) * (size // 250 + 1))
    return directory
