"""The command: what is written around a published tree, and moving labels in it.

    python -m serving_configs write DIR
    python -m serving_configs promote --publish_to DIR --model M --version V [--server HOST:PORT]
    python -m serving_configs rollback --publish_to DIR --model M
    python -m serving_configs label --publish_to DIR --model M --version V --label L
    python -m serving_configs extract ARCHIVE DIR

Exit status: 0, or 2 with a line that says what is wrong; then nothing was changed.
"""

import argparse
import pathlib
import re
import sys
from collections.abc import Sequence

from .edit import Change, edit
from .errors import ConfigError
from .hub_archive import extract_archive
from .labels import move_label, promote, rollback
from .write import HUB_URL, Settings, write_all

# The rule of the hub's documentation format.
_PUBLISHER = re.compile(r"[a-z\d-]+")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.

    Returns:
        The exit status.
    """
    arguments = _parser().parse_args(argv)
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
    settings = Settings(arguments.hub_publisher, arguments.hub_url, arguments.base_path)
    for archive in write_all(arguments.publish_to, settings):
        print(archive)


def _edit(arguments: argparse.Namespace) -> None:
    model, version = arguments.model, arguments.version
    changes: dict[str, Change] = {
        "promote": lambda config, latest: promote(config, model, version, latest),
        "rollback": lambda config, latest: rollback(config, model, version, latest),
        "label": lambda config, latest: move_label(config, model, arguments.label, version, latest),
    }
    labels = edit(
        arguments.publish_to,
        model,
        changes[arguments.command],
        arguments.server,
        arguments.load_seconds,
    )
    print(f"{model}: " + ", ".join(f"{label} {number}" for label, number in labels.items()))


def _extract(arguments: argparse.Namespace) -> None:
    extract_archive(pathlib.Path(arguments.archive), pathlib.Path(arguments.directory))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m serving_configs", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    write = commands.add_parser(
        "write", help="write configs, deployment files, archives and pages of what is published"
    )
    write.add_argument("publish_to", help="root of the published tree")
    write.add_argument(
        "--base_path",
        help="directory of the base paths as servers see it, such as /models; absolute "
        "(default: what models.config has, at first the tree's own)",
    )
    write.add_argument("--hub_publisher", default="cait", help="publisher's name in hub handles")
    write.add_argument(
        "--hub_url", default=HUB_URL, help="where the hub's directory can be read, for the pages"
    )
    write.set_defaults(run=_write)
    for name, help_text in {
        "promote": "make a version the stable one",
        "rollback": "make the previous version, or the one given, the stable one again",
        "label": "let a label name a version",
    }.items():
        command = commands.add_parser(name, help=help_text)
        command.add_argument("--publish_to", required=True, help="root of the published tree")
        command.add_argument("--model", required=True, help="the model's name")
        command.add_argument("--version", type=int, required=name != "rollback", help="a number")
        if name == "label":
            command.add_argument("--label", required=True, help="such as canary")
        command.add_argument(
            "--server",
            action="append",
            default=[],
            metavar="HOST:PORT",
            help="gRPC address of a running server to hand the config to; may be repeated",
        )
        command.add_argument(
            "--load_seconds", type=float, default=600.0, help="how long its loads may take"
        )
        command.set_defaults(run=_edit)
    extract = commands.add_parser("extract", help="unpack an archive of the hub, checking it")
    extract.add_argument("archive")
    extract.add_argument("directory", help="must not exist yet")
    extract.set_defaults(run=_extract)
    return parser


if __name__ == "__main__":
    sys.exit(main())
