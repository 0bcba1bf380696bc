"""Starting a model server as a process: tensorflow_model_server or the server of this package.

Both take the same flags.
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

SERVING_GRPC = "model_server: serving gRPC on "
"""What the server of this package prints before its address, once it serves."""

_STOP_SECONDS = 60.0


class LaunchError(Exception):
    """A server that did not start; the message is one line."""


@dataclasses.dataclass(frozen=True)
class ServerProcess:
    """A server that answers, on the loopback address.

    Attributes:
        process: the process.
        port: port of gRPC.
        rest_port: port of REST; 0 without REST.
        log: file with the server's output.
    """

    process: "subprocess.Popen[bytes]"
    port: int
    rest_port: int
    log: pathlib.Path


def find_binary(named: str | None = None) -> str | None:
    """The program of the real server.

    Args:
        named: its path or its name.

    Returns:
        `named`, or `tensorflow_model_server` if that is on the PATH, or None.

    Raises:
        LaunchError: `named` is not a program.
    """
    found = shutil.which(named or BINARY)
    if named and found is None:
        raise LaunchError(f"{named}: no program of that name")
    return found


@contextlib.contextmanager
def server_process(
    *flags: str, binary: str | None = None, rest_port: int = 0, seconds: float = 180.0
) -> Iterator[ServerProcess]:
    """A server in its own process. It answers when the block begins and ends with the block.

    Args:
        flags: of the command line, without the ports. The port of gRPC is a free one.
        binary: its program, from `find_binary`; None is the server of this package.
        rest_port: port of REST, for example from `free_port`; 0 is no REST.
        seconds: how long the server has to start.

    Raises:
        LaunchError: the server ended, or did not answer in time.
    """
    port = free_port()
    command = [binary] if binary else own_server_command()
    command += [f"--port={port}", f"--rest_api_port={rest_port}", *flags]
    with process_with_log(command) as (process, log):
        end = time.monotonic() + seconds
        for needed in filter(None, (port, rest_port)):
            while not _answers(needed):
                if process.poll() is not None or time.monotonic() > end:
                    raise LaunchError(_why(command, process.returncode, log))
                time.sleep(0.05)
        yield ServerProcess(process, port, rest_port, log)


@contextlib.contextmanager
def process_with_log(
    command: list[str],
) -> Iterator[tuple["subprocess.Popen[bytes]", pathlib.Path]]:
    """A process and the file with its output. SIGTERM ends the process when the block is left."""
    with tempfile.TemporaryDirectory(prefix="model_server_") as scratch:
        log = pathlib.Path(scratch) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
            )
        try:
            yield process, log
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def last_line(log: pathlib.Path) -> str:
    """The last line of a process's output."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def own_server_command() -> list[str]:
    """The command of this package's server, without flags."""
    # -P: a folder `serving` in the working directory is not this package.
    return [sys.executable, "-P", "-m", "serving.model_server"]


def _environment() -> dict[str, str]:
    """The environment, in which Python finds this package from any directory.

    Python finds an installed package anyway. For a checkout the PYTHONPATH names it.
    """
    root = pathlib.Path(__file__).parents[2]
    if not (root / "pyproject.toml").exists():
        return dict(os.environ)
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def free_port() -> int:
    """A port of the loopback address that is free at the moment."""
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
    happened = "did not answer in time" if status is None else f"ended with status {status}"
    return f"{' '.join(command)}: {happened}: {last_line(log)}"
