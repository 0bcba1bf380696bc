"""The command of the client: `python -m serving.client classify|status|metadata`."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence

from signatures.addresses import disk_path

from ..command_line import CommandParser, add_timeout_flag, fail
from ..errors import Code
from .blocking import Client
from .channels import SERVER, TIMEOUT, ClientError, Tls
from .photos import Photo, Report, classified, classify, named_photo, read_photo

_USERS = (
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.FAILED_PRECONDITION,
    Code.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED,
    Code.UNIMPLEMENTED,
)
"""Codes with exit status 2: the user can correct the request or the address."""


def main(argv: Sequence[str] | None = None, prog: str = "python -m serving.client") -> int:
    """Runs the command.

    Args:
        argv: arguments; by default those of the process.
        prog: name of the command in its help.

    Returns:
        The exit status: 2 for what the user can correct, 1 if the server failed. Where only some
        photos are wrong, the answers for the others are printed.
    """
    try:
        options = _parser(prog).parse_args(argv)
        report = _run(options)
    except ClientError as error:
        return _failed(error, 2 if error.code in _USERS else 1)
    except (OSError, ValueError) as error:
        return _failed(error, 2)
    if report.text:
        print(report.text)
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    for problem in report.problems:
        fail("client", problem)
    return 2 if report.problems else 0


def _run(options: argparse.Namespace) -> Report:
    """Everything that is to be printed. Nothing is printed before all is known."""
    tls = _tls(options)
    if options.command is _status and options.label is not None:
        # A server answers with all versions then, also where it has no such label.
        raise ValueError("status takes no --label; metadata --label says which version has it")
    photos: list[Photo] = getattr(options, "photos", [])
    for photo in photos:
        read_photo(photo, options.only_jpeg_png)
    if photos and all(photo.problem for photo in photos):
        return classified(photos, options.json)
    with Client(
        options.server,
        options.model,
        version=options.version,
        label=options.label,
        timeout=options.timeout,
        tls=tls,
    ) as client:
        command: Callable[[Client, list[Photo], bool], Report] = options.command
        return command(client, photos, options.json)


def _status(client: Client, _: list[Photo], as_json: bool) -> Report:
    versions = client.status()
    if as_json:
        return Report(json.dumps([dataclasses.asdict(version) for version in versions], indent=2))
    return Report(
        "\n".join(
            f"{entry.version}  {entry.state}"
            + (f"  {' '.join(entry.error.split())}" if entry.error else "")
            for entry in versions
        )
    )


def _metadata(client: Client, _: list[Photo], as_json: bool) -> Report:
    found = client.metadata()
    if as_json:
        return Report(json.dumps(dataclasses.asdict(found), indent=2))
    untrained = ", not trained" if found.untrained else ""
    lines = [f"{found.model} version {found.version}{untrained}"]
    for name, signature in found.signatures.items():
        lines.append(f"  {name}  {signature.method}")
        for way, tensors in (("in ", signature.inputs), ("out", signature.outputs)):
            for key, tensor in tensors.items():
                lines.append(f"    {way} {key}  {tensor.dtype} {_shape(tensor.shape)}")
    return Report("\n".join(lines))


def _shape(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "of any shape"
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def _failed(error: Exception, status: int) -> int:
    if isinstance(error, OSError) and error.filename is not None:
        return fail("client", f"{error.filename}: {error.strerror}", status)
    return fail("client", error, status)


def _tls(options: argparse.Namespace) -> Tls | None:
    files = (options.ca, options.cert, options.key, options.tls_server_name)
    if options.tls:
        return Tls(*files)
    if any(files):
        raise ValueError("--ca, --cert, --key and --tls_server_name need --tls")
    return None


def _common_flags() -> CommandParser:
    common = CommandParser(add_help=False)
    common.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=SERVER,
        help="address of the server's gRPC port (default: %(default)s)",
    )
    common.add_argument("--model", metavar="NAME", required=True, help="name of the model (needed)")
    which = common.add_mutually_exclusive_group()
    which.add_argument(
        "--version", metavar="N", type=int, help="number of the version (default: the latest)"
    )
    which.add_argument(
        "--label", metavar="NAME", help="label of the version, instead (default: none)"
    )
    add_timeout_flag(common, "a call", TIMEOUT)
    common.add_argument("--json", action="store_true", help="print JSON, for programs")
    tls = common.add_argument_group("TLS", "The other flags need --tls.")
    tls.add_argument("--tls", action="store_true", help="the server has TLS")
    tls.add_argument(
        "--ca",
        metavar="FILE",
        type=disk_path,
        help="PEM file of the authority of the server's certificate (default: the system's)",
    )
    tls.add_argument(
        "--cert",
        metavar="FILE",
        type=disk_path,
        help="PEM file of this client's certificate (default: none)",
    )
    tls.add_argument(
        "--key",
        metavar="FILE",
        type=disk_path,
        help="PEM file of its private key (default: none)",
    )
    tls.add_argument(
        "--tls_server_name",
        metavar="NAME",
        help="name in the server's certificate (default: that of --server)",
    )
    return common


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog,
        description="Calls a model server: classifies photos, or describes a model of the server.",
        epilog="example, with a server on this machine:\n"
        "  %(prog)s classify --model cait_xxs24_224 photo.jpg\n\n"
        "Exit status: 0, 2 for what you can correct, 1 when the server failed.",
    )
    commands = parser.add_subparsers(required=True, metavar="classify|status|metadata")
    for name, command, text, photo in (
        ("classify", classify, "the five best classes of photos", " photo.jpg"),
        ("status", _status, "the versions of a model and their states", ""),
        ("metadata", _metadata, "the signatures of a model", ""),
    ):
        added = commands.add_parser(
            name,
            parents=[_common_flags()],
            help=text,
            description=f"Prints {text}.",
            epilog=f"example:\n  %(prog)s --model cait_xxs24_224{photo}",
        )
        added.set_defaults(command=command)
        if command is classify:
            added.add_argument(
                "photos",
                nargs="+",
                metavar="PHOTO",
                type=named_photo,
                help="a JPEG or PNG; of another format that Pillow reads, a PNG of it is sent",
            )
            added.add_argument(
                "--only_jpeg_png",
                action="store_true",
                help="refuse photos of other formats (default: they are converted)",
            )
    return parser
