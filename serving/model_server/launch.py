"""Starting a model server as a process: the real one where there is one, or that of this package.

Both take the same flags, so what works with one works with the other.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

BINARY = "tensorflow_model_server"

_STOP_SECONDS = 60.0


class LaunchError(Exception):
    """A server that did not come up; one line."""


@dataclasses.dataclass(frozen=True)
class ServerProcess:
    """A server that answers.

    Attributes:
        process: the process.
        port: of gRPC, on the loopback address.
        rest_port: of REST; 0 if it was not asked for.
        log: the file that its output goes to.
    """

    process: "subprocess.Popen[bytes]"
    port: int
    rest_port: int
    log: pathlib.Path


def find_binary(named: str | None = None) -> str | None:
    """The real server's program.

    Args:
        named: its path or its name, if somebody has given one.

    Returns:
        That, or `tensorflow_model_server` where it is on the PATH, or None.

    Raises:
        LaunchError: the one that was named is no program.
    """
    found = shutil.which(named or BINARY)
    if named and found is None:
        raise LaunchError(f"{named}: no program of that name")
    return found


@contextlib.contextmanager
def server_process(
    *flags: str, binary: str | None = None, rest_port: int = 0, seconds: float = 180.0
) -> Iterator[ServerProcess]:
    """A server in a process of its own, from when it answers until the block is left.

    Its port of gRPC is a free one. It is ended by SIGTERM.

    Args:
        flags: as on the command line, without the ports.
        binary: its program, as `find_binary` gives it; None is the server of this package.
        rest_port: of REST, such as `free_port` gives; 0 is no REST.
        seconds: how long it has to come up.

    Raises:
        LaunchError: it ended, or did not answer in time.
    """
    port = free_port()
    command = [binary] if binary else own_server_command()
    command += [f"--port={port}", f"--rest_api_port={rest_port}", *flags]
    with tempfile.TemporaryDirectory(prefix="model_server_") as scratch:
        log = pathlib.Path(scratch) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=own_server_environment()
            )
        try:
            end = time.monotonic() + seconds
            for needed in filter(None, (port, rest_port)):
                while not _answers(needed):
                    if process.poll() is not None or time.monotonic() > end:
                        raise LaunchError(_why(command, process.returncode, log))
                    time.sleep(0.05)
            yield ServerProcess(process, port, rest_port, log)
        finally:
            _stop(process)


def own_server_command() -> list[str]:
    """How the server of this package is started, without its flags."""
    # -P: a folder `serving` in the working directory is somebody else's.
    return [sys.executable, "-P", "-m", "serving.model_server"]


def own_server_environment() -> dict[str, str]:
    """This process's variables, in which a new interpreter finds this package from any directory.

    Where it is installed, it is found anyway. From a checkout it is by the PYTHONPATH.
    """
    root = pathlib.Path(__file__).parents[2]
    if not (root / "pyproject.toml").exists():
        return dict(os.environ)
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def free_port() -> int:
    """A port of the loopback address that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _why(command: list[str], status: int | None, log: pathlib.Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    happened = "did not answer in time" if status is None else f"ended with status {status}"
    return f"{' '.join(command)}: {happened}: {lines[-1] if lines else 'it said nothing'}"


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
