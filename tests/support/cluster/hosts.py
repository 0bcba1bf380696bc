"""A cluster on this machine: an object store, and hosts that share nothing but that.

A host is a mount namespace. Its disk for temporary files is its own, and it has our code from the
installed wheel alone: the source is hidden from it.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import unittest.mock
from collections.abc import Iterator, Mapping

from tests.support.paths import REPOSITORY
from tests.support.publishers import Tree

from .programs import Program, environment, on_a_host

HOSTS = 3
_BUCKET = "published"
# Known to the programs by their environment, and to nobody by the command line.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclasses.dataclass
class Cluster:
    """What has been started.

    Attributes:
        folder: for all of its files.
        wheel: our code.
        store: the object store's server.
        endpoint: its address.
    """

    folder: pathlib.Path
    wheel: pathlib.Path
    store: Program
    endpoint: str
    _stack: contextlib.ExitStack
    _started: int = 0

    @property
    def options(self) -> tuple[str, ...]:
        """Beam's flags for the object store."""
        return (f"--s3_endpoint_url={self.endpoint}",)

    def tree(self, name: str) -> Tree:
        """A place in the object store."""
        return Tree(f"s3://{_BUCKET}/{name}", self.options)

    @property
    def code(self) -> pathlib.Path:
        """The folder that the wheel is installed in."""
        return self.folder / "code"

    def writes_below(self, tree: Tree, pattern: str) -> list[str]:
        """Names of a tree's objects that match, in the order in which they were written."""
        top = tree.root.removeprefix(f"s3://{_BUCKET}/")
        found = re.findall(
            rf'"(?:PUT /{_BUCKET}/([^ ?]+)|POST /{_BUCKET}/([^ ?]+)\?uploadId=\S+) ',
            self.store.output,
        )
        names = [name or uploaded for name, uploaded in found]
        return [n for n in names if n.startswith(f"{top}/") and re.search(pattern, n)]

    def start(self, name: str, *command: str) -> Program:
        """Starts a program on this machine. It ends with the cluster."""
        self._started += 1
        home = self._folder("client")
        log = self.folder / f"{self._started:02}-{name}.log"
        program = Program(
            command, log, environment(home, REPOSITORY, **CREDENTIALS), self.folder / "client"
        )
        self._stack.callback(program.kill)
        return program

    def start_job(self, name: str, *flags: str) -> Program:
        """Starts a job: `publish` or `evaluate`."""
        return self.start(name, sys.executable, "-m", "tests.support.cluster.job", name, *flags)

    def start_on_host(
        self,
        number: int,
        *command: str,
        code: pathlib.Path | None = None,
        credentials: Mapping[str, str] = CREDENTIALS,
    ) -> Program:
        """Starts a program on a host of its own.

        Args:
            number: of the host.
            command: its arguments.
            code: the folder with our code; None where it gets that by itself.
            credentials: its environment's, for the object store.
        """
        self._started += 1
        # The same path on every host: what shares a disk by accident fails.
        home, client = self._folder("host"), self._folder("client")
        hidden = [home, client] if code else [home, client, self.code]
        program = Program(
            on_a_host(hidden, command),
            self.folder / f"{self._started:02}-host-{number}.log",
            environment(home, code or home, **credentials),
            self.folder,
        )
        self._stack.callback(program.kill)
        return program

    def _folder(self, name: str) -> pathlib.Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        """What is started within the block ends with it."""
        whole, self._stack = self._stack, contextlib.ExitStack()
        try:
            with self._stack:
                yield
        finally:
            self._stack = whole


@contextlib.contextmanager
def running_cluster(folder: pathlib.Path, wheel: pathlib.Path) -> Iterator[Cluster]:
    """The object store, and the wheel installed for the hosts. At the end all of it is gone.

    Args:
        folder: an empty one.
        wheel: our code.
    """
    install = ["--quiet", "--no-index", "--no-deps", "--disable-pip-version-check", "--target"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *install, str(folder / "code"), str(wheel)],
        check=True,
    )
    with contextlib.ExitStack() as stack:
        home = folder / "store"
        home.mkdir()
        store = Program(
            [sys.executable, "-m", "moto.server", "--host=127.0.0.1", "--port=0"],
            folder / "00-store.log",
            environment(home, folder / "code"),
            home,
        )
        stack.callback(store.kill)
        # For what this process reads and writes.
        stack.enter_context(unittest.mock.patch.dict(os.environ, CREDENTIALS))
        endpoint = store.wait_for(r"Running on (http://127\.0\.0\.1:\d+)")[1]
        _make_bucket(endpoint)
        yield Cluster(folder, wheel, store, endpoint, stack)


def _make_bucket(endpoint: str) -> None:
    import boto3

    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=_BUCKET)
