"""The command that writes everything around the models of a published tree, and moves labels.

    python -m serving_configs write DIR
    python -m serving_configs promote --publish_to DIR --model M --version V [--server HOST:PORT]
    python -m serving_configs rollback --publish_to DIR --model M
    python -m serving_configs label --publish_to DIR --model M --version V --label L
    python -m serving_configs status DIR [--server HOST:PORT]
    python -m serving_configs sign DIR --sign_with KEY
    python -m serving_configs extract ARCHIVE DIR
    python -m serving_configs upload kaggle|hf DIR --owner NAME [--dry_run]

Exit status: 0, or 2 with a line that says what is wrong; then nothing was changed.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Sequence

from signatures.addresses import is_url
from signatures.messages import without_credentials
from signatures.program import disk_full, run
from signatures.tables import as_text

from .errors import ConfigError
from .flags import parser_of
from .hub.reader import archived_version, extract_archive
from .rollout.edit import Change, edit
from .rollout.history import Polling
from .status import table, tree_status
from .tree.manifest import load_manifest
from .tree.paths import MODELS_CONFIG
from .write import Settings, write_all

# The form that the hub's documentation format requires.
_PUBLISHER = re.compile(r"[a-z\d-]+")
# A name of an object in Kubernetes.
_STORAGE_CLASS = re.compile(r"(?=.{1,253}$)[a-z\d]([-.a-z\d]*[a-z\d])?")
_OWNER = re.compile(r"[A-Za-z\d]+([-_.][A-Za-z\d]+)*")


def main(argv: Sequence[str] | None = None, prog: str = "python -m serving_configs") -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.
        prog: the command's name in its help.

    Returns:
        The exit status.
    """
    try:
        arguments = parser_of(prog).parse_args(argv)
        _require_directory(getattr(arguments, "publish_to", ""))
        _RUN[arguments.command](arguments)
    except ConfigError as error:
        print(f"error: {without_credentials(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1 if disk_full(error) else 2
    return 0


def _require_directory(publish_to: str) -> None:
    if is_url(publish_to):
        raise ConfigError(
            f"{publish_to}: a URL; expected a directory. pipelines.publish writes the configs of a "
            f"tree on a URL and keeps the labels that its {MODELS_CONFIG} has"
        )


def _write(arguments: argparse.Namespace) -> None:
    if not _PUBLISHER.fullmatch(arguments.hub_publisher):
        raise ConfigError(
            f"--hub_publisher {arguments.hub_publisher!r}; expected lower-case letters, digits "
            "and hyphens"
        )
    if not _STORAGE_CLASS.fullmatch(arguments.storage_class or "default"):
        raise ConfigError(
            f"--storage_class {arguments.storage_class!r}; expected lower-case letters, digits, "
            "hyphens and dots"
        )
    settings = Settings(
        arguments.hub_publisher,
        arguments.hub_url,
        arguments.base_path,
        arguments.batching,
        storage_class=arguments.storage_class,
    )
    for archive in write_all(arguments.publish_to, settings):
        print(archive)


def _edit(arguments: argparse.Namespace) -> None:
    for name in ("poll_seconds", "load_seconds"):
        if not 0 <= getattr(arguments, name) < math.inf:
            raise ConfigError(f"--{name} {getattr(arguments, name)}; expected seconds")
    label = getattr(arguments, "label", "")
    change = Change(arguments.command, arguments.model, arguments.version, label)
    labels = edit(
        arguments.publish_to,
        change,
        Polling(arguments.poll_seconds, arguments.load_seconds),
        servers=arguments.server,
        wait=arguments.wait,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(f"{arguments.model}: " + ", ".join(f"{name} {v}" for name, v in labels.items()))


def _status(arguments: argparse.Namespace) -> None:
    versions = tree_status(arguments.publish_to, arguments.server)
    if arguments.json:
        print(json.dumps([version.as_json() for version in versions], indent=1))
    else:
        print(as_text(table(versions)))


def _sign(arguments: argparse.Namespace) -> None:
    from .trust.keys import read_private_key, read_public_keys
    from .trust.sign import sign_tree

    replaced = read_public_keys([arguments.replace]) if arguments.replace else ()
    key = read_private_key(arguments.sign_with)
    for directory in sign_tree(arguments.publish_to, key, replaced):
        print(directory)


def _extract(arguments: argparse.Namespace) -> None:
    from .trust.check import unpacked_problem
    from .trust.keys import read_public_keys

    keys = read_public_keys(arguments.public_key)
    if not keys:
        extract_archive(arguments.archive, arguments.directory)
        return
    of = archived_version(arguments.archive)
    extract_archive(
        arguments.archive,
        arguments.directory,
        lambda unpacked: unpacked_problem(unpacked, of, keys),
    )
    manifest = load_manifest(arguments.directory)
    print(f"{manifest.model} version {manifest.version}")


def _upload(arguments: argparse.Namespace) -> None:
    from .upload.hugging_face import upload_to_hugging_face
    from .upload.kaggle import upload_to_kaggle
    from .upload.local import Upload

    if not _OWNER.fullmatch(arguments.owner):
        raise ConfigError(
            f"--owner {arguments.owner!r}; expected the name in the addresses of its models: "
            "letters, digits and single '-', '_' or '.'"
        )
    upload = Upload(
        arguments.publish_to,
        arguments.owner,
        arguments.dry_run,
        lambda line, output=sys.stdout: print(line, file=output, flush=True),  # type: ignore[misc]
    )
    to = {"hf": upload_to_hugging_face, "kaggle": upload_to_kaggle}[arguments.hub]
    to(upload, list(dict.fromkeys(arguments.model)))


_RUN: dict[str, Callable[[argparse.Namespace], None]] = {
    "write": _write,
    "promote": _edit,
    "rollback": _edit,
    "label": _edit,
    "status": _status,
    "sign": _sign,
    "extract": _extract,
    "upload": _upload,
}


if __name__ == "__main__":
    sys.exit(run(main))
