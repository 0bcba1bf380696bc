"""The flags of `python -m serving_configs`, by subcommand."""

import argparse
from typing import NoReturn

from signatures.addresses import address, disk_path, written_url
from signatures.flags import WholeFlagsParser

from .errors import ConfigError
from .server.deployment import POLL_SECONDS
from .trust.flags import add_public_key, add_sign_with
from .write import HUB_URL, Settings


class _Parser(WholeFlagsParser):
    """A parser that raises its errors."""

    def error(self, message: str) -> NoReturn:
        """Refuses a command line.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(message)


def parser_of(prog: str) -> argparse.ArgumentParser:
    """The parser of the command line; `command` is the subcommand.

    Args:
        prog: the command's name in its help.
    """
    parser = _Parser(
        prog,
        description="Writes what is around the models of a published tree, and moves labels in it.",
        epilog="example, making version 2 the one that clients get:\n"
        "  %(prog)s promote --publish_to published --model cait_xxs24_224 --version 2\n\n"
        "Exit status: 0, or 2 with a line that says what is wrong; then nothing was changed, but "
        "for\nwhat `upload` says that it uploaded before.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_write(commands)
    for name, summary, flags in (
        ("promote", "make a version the stable one", " --version 2"),
        ("rollback", "make the previous version, or --version, the stable one again", ""),
        ("label", "move a label to a version", " --version 2 --label canary"),
    ):
        example = f"--publish_to published --model cait_xxs24_224{flags}"
        _add_edit_flags(_add_command(commands, name, summary, example), name)
    _add_status(commands)
    _add_sign(commands)
    extract = _add_command(
        commands,
        "extract",
        "check an archive of the hub and unpack it",
        "published/hub/cait/cait_xxs24_224/1.tar.gz model",
    )
    extract.add_argument("archive", type=disk_path, help="the .tar.gz of a model's version")
    extract.add_argument("directory", type=disk_path, help="must not exist yet")
    add_public_key(extract, "unpack nothing")
    _add_upload(commands)
    return parser


def _add_status(commands: "argparse._SubParsersAction[_Parser]") -> None:
    status = _add_command(
        commands,
        "status",
        "show the published versions, their labels, and what running servers have loaded",
        "published --server localhost:8500",
    )
    status.add_argument("publish_to", type=address, help="root of the published tree")
    status.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="gRPC address of a running server; may be repeated (default: none)",
    )
    status.add_argument("--json", action="store_true", help="JSON in place of a table")


def _add_sign(commands: "argparse._SubParsersAction[_Parser]") -> None:
    sign = _add_command(
        commands,
        "sign",
        "sign the published versions that no key of the tree has signed",
        "published --sign_with private.pem",
    )
    sign.add_argument("publish_to", type=address, help="root of the published tree")
    add_sign_with(sign, required=True)
    sign.add_argument(
        "--replace",
        metavar="FILE",
        type=disk_path,
        help="PEM file of old public keys: sign what they signed too; they are the tree's keys no "
        "longer. A version that neither they nor the new key signed is refused (default: other "
        "signatures stay, and their keys are the tree's beside this one)",
    )


def _add_upload(commands: "argparse._SubParsersAction[_Parser]") -> None:
    upload = _add_command(
        commands,
        "upload",
        "upload the published versions, with their pages, to a public hub",
        "hf published --owner my-team --dry_run",
    )
    hubs: argparse._SubParsersAction[_Parser] = upload.add_subparsers(
        dest="hub", required=True, metavar="HUB"
    )
    for name, summary, credentials in (
        (
            "kaggle",
            "upload every model as a variation of OWNER/cait on Kaggle Models",
            "KAGGLE_API_TOKEN, KAGGLE_USERNAME and KAGGLE_KEY, or a file in ~/.kaggle",
        ),
        (
            "hf",
            "upload every model as a repository OWNER/MODEL on Hugging Face",
            "HF_TOKEN, or what `hf auth login` saved",
        ),
    ):
        hub = _add_command(hubs, name, summary, "published --owner my-team --dry_run")
        hub.epilog = (
            f"{hub.epilog}\n\n"
            "What is there already is not uploaded again: after a break, run the same command.\n"
            f"Credentials: {credentials}."
        )
        hub.add_argument("publish_to", type=address, help="root of the published tree")
        hub.add_argument(
            "--owner",
            metavar="NAME",
            required=True,
            help="the user or the organisation there that has the models (needed)",
        )
        hub.add_argument(
            "--model",
            action="append",
            default=[],
            metavar="NAME",
            help="a model to upload; may be repeated (default: all)",
        )
        hub.add_argument(
            "--dry_run",
            action="store_true",
            help="only say what would be uploaded; reads what is there, so credentials are needed",
        )


def _add_write(commands: "argparse._SubParsersAction[_Parser]") -> None:
    write = _add_command(
        commands,
        "write",
        "write configs, deployment files, archives and pages for the published models",
        "published --base_path /models",
    )
    write.add_argument("publish_to", type=address, help="root of the published tree")
    write.add_argument(
        "--base_path",
        metavar="DIR",
        type=written_url,
        help="directory of the base paths as servers see it, such as /models; absolute "
        "(default: that in models.config, at first the tree's own)",
    )
    write.add_argument(
        "--hub_publisher",
        metavar="NAME",
        default=Settings.publisher,
        help="publisher's name in hub handles (default: %(default)s)",
    )
    write.add_argument(
        "--hub_url",
        metavar="URL",
        type=written_url,
        help="URL of the hub's directory, for the pages (default: that of the last write, at "
        f"first {HUB_URL})",
    )
    write.add_argument(
        "--storage_class",
        metavar="NAME",
        help="storage class of Kubernetes, with ReadWriteMany, for the volume of the models "
        "(default: that of the last write, at first the cluster's own, with ReadWriteOnce, as with "
        "an empty name)",
    )
    write.add_argument(
        "--batching",
        action=argparse.BooleanOptionalAction,
        help="let servers join requests to batches, for GPUs. On processors that gains nothing. An "
        "image that cannot be decoded fails the others of its batch, so clients should send "
        "tensors or check images first (default: as in the deployment files, at first off)",
    )


def _add_edit_flags(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument(
        "--publish_to",
        metavar="DIR",
        type=address,
        required=True,
        help="root of the published tree (needed)",
    )
    command.add_argument("--model", metavar="NAME", required=True, help="the model's name (needed)")
    command.add_argument(
        "--version",
        metavar="N",
        type=int,
        required=name != "rollback",
        help=f"its number ({'default: the one before' if name == 'rollback' else 'needed'})",
    )
    if name == "label":
        command.add_argument(
            "--label", metavar="NAME", required=True, help="such as canary (needed)"
        )
    command.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="gRPC address of a running server to reload; may be repeated (default: none)",
    )
    command.add_argument(
        "--wait",
        action="store_true",
        help="wait until polling servers can have loaded the version, instead of refusing; with "
        "--server the command always waits",
    )
    command.add_argument(
        "--poll_seconds",
        metavar="SECONDS",
        type=float,
        default=POLL_SECONDS,
        help="the longest time between two polls of the file by a server; 0 when no server polls "
        "it, or --server names all that do (default: %(default)s, as in the deployment files)",
    )
    command.add_argument(
        "--load_seconds",
        metavar="SECONDS",
        type=float,
        default=600.0,
        help="the longest time of a server's start or of a load (default: %(default)s)",
    )


def _add_command(
    commands: "argparse._SubParsersAction[_Parser]",
    name: str,
    summary: str,
    example: str,
) -> _Parser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  %(prog)s {example}",
    )
