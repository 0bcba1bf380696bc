"""The command: what is written around a published tree, and moving labels in it.

    python -m serving_configs write DIR
    python -m serving_configs promote --publish_to DIR --model M --version V [--server HOST:PORT]
    python -m serving_configs rollback --publish_to DIR --model M
    python -m serving_configs label --publish_to DIR --model M --version V --label L
    python -m serving_configs extract ARCHIVE DIR

Exit status: 0, or 2 with a line that says what is wrong; then nothing was changed.
"""

import argparse
import math
import pathlib
import re
import sys
from collections.abc import Sequence

from .errors import ConfigError
from .hub.archive import extract_archive
from .rollout.edit import Change, edit
from .rollout.history import Polling
from .server.deployment import POLL_SECONDS
from .write import HUB_URL, Settings, write_all

# The rule of the hub's documentation format.
_PUBLISHER = re.compile(r"[a-z\d-]+")


def main(argv: Sequence[str] | None = None, prog: str = "python -m serving_configs") -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.
        prog: the command as its help writes it.

    Returns:
        The exit status.
    """
    arguments = _parser(prog).parse_args(argv)
    try:
        _require_directory(getattr(arguments, "publish_to", ""))
        arguments.run(arguments)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def _require_directory(publish_to: str) -> None:
    if "://" in publish_to:
        raise ConfigError(
            f"{publish_to}: a URL; expected a directory. pipelines.publish writes the configs of a "
            "tree on a URL and keeps the labels that its serving/models.config has"
        )


def _write(arguments: argparse.Namespace) -> None:
    if not _PUBLISHER.fullmatch(arguments.hub_publisher):
        raise ConfigError(
            f"--hub_publisher {arguments.hub_publisher!r}; expected lower-case letters, digits "
            "and hyphens"
        )
    settings = Settings(
        arguments.hub_publisher, arguments.hub_url, arguments.base_path, arguments.batching
    )
    for archive in write_all(arguments.publish_to, settings):
        print(archive)


def _edit(arguments: argparse.Namespace) -> None:
    for name in ("poll_seconds", "load_seconds"):
        if not 0 <= getattr(arguments, name) < math.inf:
            raise ConfigError(f"--{name} {getattr(arguments, name)}; expected seconds")
    change = Change(
        arguments.command,
        arguments.model,
        arguments.version,
        arguments.label if arguments.command == "label" else "",
    )
    labels = edit(
        arguments.publish_to,
        change,
        Polling(arguments.poll_seconds, arguments.load_seconds),
        servers=arguments.server,
        wait=arguments.wait,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(f"{arguments.model}: " + ", ".join(f"{name} {v}" for name, v in labels.items()))


def _extract(arguments: argparse.Namespace) -> None:
    extract_archive(pathlib.Path(arguments.archive), pathlib.Path(arguments.directory))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog,
        description="Writes what is around the models of a published tree, and moves labels in it.",
        epilog="example, making version 2 the one that clients get:\n"
        "  %(prog)s promote --publish_to published --model cait_xxs24_224 --version 2\n\n"
        "Exit status: 0, or 2 with a line that says what is wrong; then nothing was changed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    write = _add_command(
        commands,
        "write",
        "write configs, deployment files, archives and pages of what is published",
        "published --base_path /models",
    )
    write.add_argument("publish_to", help="root of the published tree")
    write.add_argument(
        "--base_path",
        metavar="DIR",
        help="directory of the base paths as servers see it, such as /models; absolute "
        "(default: what models.config has, at first the tree's own)",
    )
    write.add_argument(
        "--hub_publisher",
        metavar="NAME",
        default="cait",
        help="publisher's name in hub handles (default: %(default)s)",
    )
    write.add_argument(
        "--hub_url",
        metavar="URL",
        default=HUB_URL,
        help="where the hub's directory can be read, for the pages (default: %(default)s)",
    )
    write.add_argument(
        "--batching",
        action=argparse.BooleanOptionalAction,
        help="let servers join requests to batches, for GPUs: on processors it gains nothing, and "
        "an image that cannot be decoded fails the others of its batch, so clients should send "
        "tensors or check images first (default: as the deployment files are, at first not)",
    )
    write.set_defaults(run=_write)
    for name, help_text, flags in (
        ("promote", "make a version the stable one", " --version 2"),
        ("rollback", "make the previous version, or the one given, the stable one again", ""),
        ("label", "let a label name a version", " --version 2 --label canary"),
    ):
        example = f"--publish_to published --model cait_xxs24_224{flags}"
        command = _add_command(commands, name, help_text, example)
        command.add_argument(
            "--publish_to", metavar="DIR", required=True, help="root of the published tree (needed)"
        )
        command.add_argument(
            "--model", metavar="NAME", required=True, help="the model's name (needed)"
        )
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
            help="gRPC address of a running server to hand the config to; may be repeated "
            "(default: none)",
        )
        command.add_argument(
            "--wait",
            action="store_true",
            help="wait until servers that read the file can have loaded the version, instead of "
            "refusing; with --server this is so anyway",
        )
        command.add_argument(
            "--poll_seconds",
            metavar="SECONDS",
            type=float,
            default=POLL_SECONDS,
            help="how often servers read the file, at least; 0 when none does, or all that do are "
            "named by --server (default: %(default)s, as in the deployment files)",
        )
        command.add_argument(
            "--load_seconds",
            metavar="SECONDS",
            type=float,
            default=600.0,
            help="how long the start of a server or a load takes at most (default: %(default)s)",
        )
        command.set_defaults(run=_edit)
    extract = _add_command(
        commands,
        "extract",
        "unpack an archive of the hub, checking it",
        "published/hub/cait/cait_xxs24_224/1.tar.gz model",
    )
    extract.add_argument("archive", help="the .tar.gz of a model's version")
    extract.add_argument("directory", help="must not exist yet")
    extract.set_defaults(run=_extract)
    return parser


def _add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  %(prog)s {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


if __name__ == "__main__":
    sys.exit(main())
