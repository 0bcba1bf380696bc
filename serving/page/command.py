"""A page that shows where a model looks: `python -m serving.page --published build/published`.

It asks a model server by gRPC, one that is there (`--server`) or one of its own (`--published`).
The page itself is in `serving/page/static`; it needs no network.
"""

import argparse
import contextlib
import importlib.util
import ipaddress
import pathlib
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from typing import NoReturn

from signatures.quiet import load_tensorflow

from ..client.channels import SERVER

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PUBLISHED = pathlib.Path("build/published")


class _UsageError(ValueError):
    """A command line that is wrong; the message is one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(message)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog,
        allow_abbrev=False,
        description="Serves a local page that shows where a model looks. It asks a model server\n"
        "by gRPC, a running one (--server) or one of its own (--published), and needs no\nnetwork.",
        epilog="example, over what `make export` published:\n"
        "  %(prog)s --published build/published",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help=f"address of a model server's gRPC port (default: {SERVER})",
    )
    parser.add_argument(
        "--published",
        metavar="DIR",
        type=pathlib.Path,
        help="a published tree, served by a server of its own (default: none)",
    )
    parser.add_argument(
        "--models", metavar="NAMES", help="names of models, separated by commas (default: all)"
    )
    parser.add_argument(
        "--models_from",
        metavar="PATH",
        type=pathlib.Path,
        help="where the names come from otherwise: a directory of base paths or a models config "
        f"(default: {PUBLISHED}/serving)",
    )
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        metavar="N",
        type=int,
        default=8080,
        help="0 takes a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=300.0,
        help="seconds for a run (default: %(default)s)",
    )
    parser.add_argument("--open", action="store_true", help="opens the page in the browser")
    return parser


def _parse(argv: Sequence[str], prog: str) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and the models' names."""
    flags = _parser(prog).parse_args(argv)
    if importlib.util.find_spec("matplotlib") is None:
        raise _UsageError("matplotlib is not installed; run pip install 'cait-serving[page]'")
    if flags.published is not None and flags.server is not None:
        raise _UsageError("--published starts a server of its own and goes without --server")
    if flags.published is not None and flags.models_from is not None:
        raise _UsageError("--published has its models' names itself; --models takes some of them")
    try:
        return flags, _names(flags)
    except ValueError as error:
        raise _UsageError(str(error)) from error


def _names(flags: argparse.Namespace) -> list[str]:
    wanted = [name for name in (flags.models or "").split(",") if name]
    if wanted and flags.published is None:
        return wanted
    from .models import names_from

    place = (flags.published or PUBLISHED) / "serving"
    if flags.published is None:
        place = flags.models_from or place
        if not place.exists():
            raise ValueError(f"{place}: not there; name the server's models with --models")
    elif not place.is_dir():
        raise ValueError(f"--published={flags.published}: no directory {place}; see make export")
    names = names_from(place)
    if unknown := sorted(set(wanted) - set(names)):
        raise ValueError(f"--models: {', '.join(unknown)} not in {place}: {', '.join(names)}")
    return wanted or names


def main(argv: Sequence[str] | None = None, prog: str = "python -m serving.page") -> int:
    """Serves the page until SIGTERM or SIGINT.

    Args:
        argv: the arguments; those of the process if there are none.
        prog: the command as its help writes it.

    Returns:
        The exit status: 0 after a signal, 2 with one line about what is wrong.
    """
    with contextlib.ExitStack() as stack:
        try:
            flags, names = _parse(sys.argv[1:] if argv is None else argv, prog)
            listening = stack.enter_context(_listen(flags.host, flags.port))
        except _UsageError as error:
            print(f"page: {error}", file=sys.stderr)
            return 2
        ended = threading.Event()
        for number in SIGNALS:
            signal.signal(number, lambda *_: ended.set())
        # Native decoders log what is wrong with an image; the page shows it.
        load_tensorflow(log_level=3)
        address: Callable[[], str] = lambda: flags.server or SERVER  # noqa: E731
        if flags.published is not None:
            from .own_server import OwnServer

            own = OwnServer(flags.published / "serving", names)
            stack.callback(own.close)
            address = own.address
        _serve(flags, names, address, listening, ended)
    return 0


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise _UsageError(f"--port={port}: not a port")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
    except OSError as error:
        raise _UsageError(f"--host={host} --port={port}: {error}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen()
    except OSError as error:
        listening.close()
        raise _UsageError(f"--host={host} --port={port}: {error.strerror}") from error
    return listening


def _serve(
    flags: argparse.Namespace,
    names: Sequence[str],
    address: Callable[[], str],
    listening: socket.socket,
    ended: threading.Event,
) -> None:
    import uvicorn

    from .app import LOOPBACK, create_app

    host, port = listening.getsockname()[:2]
    loopback = ipaddress.ip_address(host).is_loopback
    app = create_app(address, names, flags.timeout, LOOPBACK if loopback else ("*",))
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    url = f"http://{'localhost' if loopback else host}:{port}"
    print(f"page: {url}", flush=True)
    if flags.open:
        # Some browsers are run in the terminal, and opening one lasts until it ends.
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    server = uvicorn.Server(config)

    def stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn takes the signals while it runs, and sends them again to whoever had them before.
    for number in SIGNALS:
        signal.signal(number, stop)
    if ended.is_set():
        return
    server.run([listening])
