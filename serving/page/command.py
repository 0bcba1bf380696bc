"""A page that shows where a model looks: `python -m serving.page --published build/published`.

It calls a model server by gRPC: a running one (`--server`) or one that it starts (`--published`).
The page itself is in `serving/page/static`; it needs no network.
"""

import argparse
import contextlib
import dataclasses
import ipaddress
import pathlib
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence

from serving_configs.tree.paths import serving_root
from signatures.addresses import disk_path
from signatures.files import read_file
from signatures.image_header import ImageHeaderError, check_image_header
from signatures.quiet import load_tensorflow

from ..client.channels import SERVER
from ..command_line import CommandParser, UsageError, add_server_flags, fail, require_matplotlib

SAMPLE = pathlib.Path(__file__).with_name("static") / "cat.jpg"
"""The photograph that the page begins with: cut from scikit-image's `chelsea` (CC0)."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PUBLISHED = "build/published"


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog,
        description="Serves a local page that shows where a model looks. The page calls a model\n"
        "server by gRPC, a running one (--server) or its own (--published), and needs\n"
        "no network.",
        epilog="example, for the models that `make export` published:\n"
        "  %(prog)s --published build/published",
    )
    add_server_flags(parser, SERVER, "a run")
    parser.add_argument(
        "--published",
        metavar="DIR",
        type=disk_path,
        help="a published tree, for which the page starts a server (default: none)",
    )
    parser.add_argument(
        "--models", metavar="NAMES", help="names of models, separated by commas (default: all)"
    )
    parser.add_argument(
        "--models_from",
        metavar="PATH",
        type=disk_path,
        help="where the names come from without --models: a directory of base paths or a models "
        f"config (default: {serving_root(PUBLISHED)})",
    )
    parser.add_argument(
        "--photograph",
        metavar="FILE",
        type=disk_path,
        help="JPEG or PNG that the page begins with (default: one of a cat)",
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
    parser.add_argument("--open", action="store_true", help="opens the page in the browser")
    return parser


@dataclasses.dataclass(frozen=True)
class _Offer:
    """What the page offers: names of models, labels of versions, a photograph to begin with."""

    names: list[str]
    labels: set[str]
    sample: pathlib.Path


def _parse(argv: Sequence[str], prog: str) -> tuple[argparse.Namespace, _Offer]:
    """The flags, and what they say that the page offers."""
    flags = _parser(prog).parse_args(argv)
    require_matplotlib("page")
    if flags.published is not None and flags.server is not None:
        raise UsageError("--published starts its own server and goes without --server")
    if flags.published is not None and flags.models_from is not None:
        raise UsageError("--published names its models itself; --models selects some of them")
    try:
        return flags, _Offer(_names(flags), _labels(flags), _sample(flags.photograph))
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error


def _sample(photograph: pathlib.Path | None) -> pathlib.Path:
    """The photograph to begin with.

    Raises:
        ValueError: it is none that a model accepts.
        OSError: it cannot be read.
    """
    if photograph is None:
        return SAMPLE
    try:
        check_image_header(read_file(photograph))
    except ImageHeaderError as error:
        raise ValueError(f"--photograph={photograph}: {error}") from error
    except OSError as error:
        raise ValueError(f"--photograph={photograph}: {error.strerror}") from error
    return photograph


def _labels(flags: argparse.Namespace) -> set[str]:
    """The labels that versions may have.

    Raises:
        ValueError: a models config cannot be read; one line.
    """
    from .models import labels_from

    if flags.published is not None:
        return labels_from(serving_root(flags.published))
    return labels_from(flags.models_from or serving_root(PUBLISHED))


def _names(flags: argparse.Namespace) -> list[str]:
    """The models to offer, from `--models`, `--published` or `--models_from`.

    Raises:
        ValueError: what is wrong with the flags; one line.
    """
    chosen = [name for name in (flags.models or "").split(",") if name]
    if chosen and flags.published is None:
        return chosen
    from .models import names_from

    if flags.published is None:
        place = flags.models_from or serving_root(PUBLISHED)
        if not place.exists():
            raise ValueError(f"{place} does not exist; name the server's models with --models")
    else:
        place = serving_root(flags.published)
        if not place.is_dir():
            raise ValueError(
                f"--published={flags.published}: no directory {place}; run make export"
            )
    names = names_from(place)
    if unknown := sorted(set(chosen) - set(names)):
        raise ValueError(f"--models: {', '.join(unknown)} not in {place}: {', '.join(names)}")
    return chosen or names


def main(argv: Sequence[str] | None = None, prog: str = "python -m serving.page") -> int:
    """Serves the page until SIGTERM or SIGINT.

    Args:
        argv: arguments; by default those of the process.
        prog: name of the command in its help.

    Returns:
        The exit status: 0 after a signal, 2 with one line about what is wrong.
    """
    with contextlib.ExitStack() as stack:
        try:
            flags, offer = _parse(sys.argv[1:] if argv is None else argv, prog)
            listening = stack.enter_context(_listen(flags.host, flags.port))
        except UsageError as error:
            return fail("page", error)
        ended = threading.Event()
        for number in SIGNALS:
            signal.signal(number, lambda *_: ended.set())
        # Native decoders log what is wrong with an image; the page shows it.
        load_tensorflow()
        address: Callable[[], str] = lambda: flags.server or SERVER  # noqa: E731
        if flags.published is not None:
            from .own_server import OwnServer

            own = OwnServer(serving_root(flags.published), offer.names)
            stack.callback(own.close)
            address = own.address
        _serve(flags, offer, address, listening, ended)
    return 0


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise UsageError(f"--port={port}: not a port")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
    except OSError as error:
        raise UsageError(f"--host={host} --port={port}: {error}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen()
    except OSError as error:
        listening.close()
        raise UsageError(f"--host={host} --port={port}: {error.strerror}") from error
    return listening


def _serve(
    flags: argparse.Namespace,
    offer: _Offer,
    address: Callable[[], str],
    listening: socket.socket,
    ended: threading.Event,
) -> None:
    import uvicorn

    from ..http_guard import LOOPBACK
    from .app import create_app

    host, port = listening.getsockname()[:2]
    loopback = ipaddress.ip_address(host).is_loopback
    app = create_app(
        address,
        offer.names,
        flags.timeout,
        (*LOOPBACK, host) if loopback else None,
        offer.labels,
        sample=offer.sample,
    )
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    url = f"http://{'localhost' if loopback else host}:{port}"
    print(f"page: {url}", flush=True)
    if flags.open:
        # A browser that runs in the terminal returns from `open` only when it ends.
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    server = uvicorn.Server(config)

    def stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn handles the signals while it runs, and raises them again for the handlers before it.
    for number in SIGNALS:
        signal.signal(number, stop)
    if ended.is_set():
        return
    server.run([listening])
