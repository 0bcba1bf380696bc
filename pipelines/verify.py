"""Checks every file of every published version against its manifest.

    python -m pipelines.verify PUBLISH_TO

Exit status: 0 when everything is as it was published, 1 when something is not, which is named, 2
when there is nothing to check.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence

from apache_beam.io.filesystems import FileSystems

from export.errors import UserError
from serving_configs import MANIFEST, FileRecord, ManifestError, parse_manifest
from serving_configs.errors import ConfigError
from serving_configs.hub.archive import check_archive
from serving_configs.tree.manifest import FOR_SERVERS, difference, identity_problems
from serving_configs.tree.paths import HUB, SERVING, version_path
from signatures.addresses import address

from .runtime.command_line import JobParser, one_line_errors
from .runtime.engines import beam_options
from .store.base import Store, open_store, read


@one_line_errors
def main(argv: Sequence[str] | None = None, prog: str = "python -m pipelines.verify") -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.
        prog: the command as its help writes it.

    Returns:
        The exit status.
    """
    flags, others = _parser(prog).parse_known_args(argv)
    # The others are Beam's, such as the endpoint of a bucket.
    FileSystems.set_options(beam_options(others, vars(flags)))
    return _verify(flags.publish_to)


def _parser(prog: str) -> JobParser:
    parser = JobParser(
        prog,
        description="Checks every file of every published version against its manifest.",
        epilog="example:\n  %(prog)s published\n\n"
        "Beam's flags, such as --s3_endpoint_url, are accepted too.\n"
        "Exit status: 0 when everything is as it was published, 1 when something is not, which is\n"
        "named, 2 when there is nothing to check.",
    )
    parser.add_argument("publish_to", type=address, help="the published tree: a directory or a URL")
    return parser


def _verify(publish_to: str) -> int:
    store = open_store(publish_to)
    checked = bad = 0
    for path, problems in tree_problems(store):
        checked += 1
        bad += bool(problems)
        for problem in problems:
            print(f"{store.address(path)}: {problem}", file=sys.stderr)
    if not checked:
        raise UserError(f"{publish_to}: nothing is published there; expected serving/<model>/<n>")
    print(f"{checked} checked, {bad} not as published")
    return 1 if bad else 0


def tree_problems(store: Store) -> Iterator[tuple[str, list[str]]]:
    """Every version and archive of a tree, and what is wrong with each; every file is read.

    A numbered directory without a manifest is reported: to TensorFlow Serving it is a version.
    """
    for model in store.children(SERVING):
        for name in store.children(f"{SERVING}/{model}"):
            if name.isdecimal():
                yield version_path(model, name), version_problems(store, model, name)
    for name in sorted(store.sizes(HUB)):
        if name.endswith(".tar.gz"):
            yield f"{HUB}/{name}", archive_problems(store, f"{HUB}/{name}")


def version_problems(store: Store, model: str, name: str) -> list[str]:
    """What is wrong with a version, a line for each.

    Args:
        store: of the tree.
        model: name of the model.
        name: of the version's directory.
    """
    path = version_path(model, name)
    try:
        manifest = parse_manifest(read(store, f"{path}/{MANIFEST}"))
    except (FileNotFoundError, NotADirectoryError):
        return ["there is no manifest: not published, or not by this pipeline"]
    except (ManifestError, OSError) as error:
        return [f"{MANIFEST}: {error}"]
    try:
        found = [
            FileRecord(file, size, _sha256(store, f"{path}/{file}"))
            for file, size in store.sizes(path).items()
            if file != str(MANIFEST)
        ]
    except OSError as error:
        return [f"cannot be read ({error})"]
    return identity_problems(manifest, model, name) + difference(manifest.files, found)


def archive_problems(store: Store, path: str) -> list[str]:
    """What is wrong with a hub archive, a line for each: it holds the version's own files.

    Of a version that was removed, only the archive's form is checked: there is no manifest left.

    Args:
        store: of the tree.
        path: `hub/<publisher>/<model>/<version>.tar.gz`.
    """
    try:
        with store.open(path) as file:
            found = check_archive(file, path)
    except (ConfigError, OSError) as error:
        return [str(error).removeprefix(f"{path}: ")]
    model, version = path.removesuffix(".tar.gz").split("/")[-2:]
    try:
        manifest = parse_manifest(read(store, f"{version_path(model, version)}/{MANIFEST}"))
    except (OSError, ManifestError):
        return []
    expected = [record for record in manifest.files if not record.path.startswith(FOR_SERVERS)]
    return difference(expected, found)


def _sha256(store: Store, path: str) -> str:
    digest = hashlib.sha256()
    with store.open(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
