"""Checks every file of every published version against its manifest.

    python -m pipelines.verify PUBLISH_TO [--public_key FILE]

Exit status: 0 when everything is as it was published, 1 when something is not, which is named, 2
when there is nothing to check.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence

from apache_beam.io.filesystems import FileSystems

from export.errors import UserError
from serving_configs import MANIFEST, FileRecord, ManifestError, parse_manifest
from serving_configs.errors import ConfigError
from serving_configs.hub.members import archived_files
from serving_configs.hub.reader import LARGEST, check_archive
from serving_configs.server.models_config import config_problems, parse_models_config
from serving_configs.tree.files import UNLISTED, content_problems, difference
from serving_configs.tree.manifest import identity_problems
from serving_configs.tree.paths import (
    DEPLOYMENT,
    HUB,
    MODELS_CONFIG,
    SERVING,
    SIGNATURE,
    version_path,
)
from serving_configs.tree.settings import SETTINGS, parse_settings
from serving_configs.trust.check import LARGEST_SIGNATURE, archive_signature_problem
from serving_configs.trust.flags import add_public_key
from serving_configs.trust.keys import PublicKey, read_public_keys
from serving_configs.trust.signature import signature_problem
from signatures.addresses import address, is_url
from signatures.messages import printable
from signatures.program import run

from .runtime.command_line import JobParser, one_line_errors
from .runtime.engines import beam_options
from .store.base import Store, open_store, read
from .store.release import read_manifests

_VERSION = re.compile(rf"{SERVING}/[^/]+/\d+(/.*)?", re.DOTALL)
_ARCHIVE = re.compile(rf"{HUB}/[^/]+/(?P<model>[^/]+)/(?P<version>[1-9][0-9]*)\.tar\.gz")


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
    try:
        keys = read_public_keys(flags.public_key)
    except ConfigError as error:
        raise UserError(f"--public_key {error}") from None
    return _verify(flags.publish_to, keys)


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
    add_public_key(parser, "report versions and archives")
    return parser


def _verify(publish_to: str, keys: Sequence[PublicKey]) -> int:
    store = open_store(publish_to)
    checked = bad = 0
    for path, problems in tree_problems(store, keys):
        checked += 1
        bad += bool(problems)
        for problem in problems:
            print(printable(f"{store.address(path)}: {problem}"), file=sys.stderr)
    if not checked:
        raise UserError(f"{publish_to}: nothing is published there; expected serving/<model>/<n>")
    signatures = " with their signatures" if keys else ""
    print(f"{checked} checked{signatures}, {bad} not as published")
    return 1 if bad else 0


def tree_problems(store: Store, keys: Sequence[PublicKey] = ()) -> Iterator[tuple[str, list[str]]]:
    """Every version, archive and config of a tree, and what is wrong with each.

    Every file of a version is read. A numbered directory without a manifest is reported: to
    TensorFlow Serving it is a version. What is neither file nor directory is reported and not
    opened.

    Args:
        store: of the tree.
        keys: the keys of which one has to have signed each version and archive; none checks no
            signature.
    """
    links = set()
    for top in (SERVING, HUB, DEPLOYMENT):
        for entry in store.foreign(top):
            path = f"{top}/{entry.path}".rstrip("/")
            if entry.kind == "special" and not _VERSION.fullmatch(path):
                links.add(path)
                yield path, [entry.problem]
    if SERVING in links:
        return
    for model in store.children(SERVING):
        if f"{SERVING}/{model}" not in links:
            for name in store.children(f"{SERVING}/{model}"):
                path = version_path(model, name)
                if name.isdecimal():
                    yield path, version_problems(store, model, name, keys)
                elif path not in links:
                    yield path, ["is no version; expected numbers only in a base path"]
    for name in sorted(store.sizes(HUB)):
        if name.endswith(".tar.gz"):
            yield f"{HUB}/{name}", archive_problems(store, f"{HUB}/{name}", keys)
    if MODELS_CONFIG in {f"{SERVING}/{name}" for name in store.children(SERVING)} - links:
        yield MODELS_CONFIG, models_config_problems(store)


def version_problems(
    store: Store, model: str, name: str, keys: Sequence[PublicKey] = ()
) -> list[str]:
    """What is wrong with a version, a line for each.

    Args:
        store: of the tree.
        model: name of the model.
        name: of the version's directory.
        keys: as in `tree_problems`.
    """
    path = version_path(model, name)
    try:
        foreign = store.foreign(path)
        if any(not entry.path and entry.kind == "special" for entry in foreign):
            return [str(entry) for entry in foreign]
        content = read(store, f"{path}/{MANIFEST}")
        manifest = parse_manifest(content)
        sizes = store.sizes(path)
        found = [
            _record(store, path, file, size) for file, size in sizes.items() if file not in UNLISTED
        ]
        signed = str(SIGNATURE) in sizes
        # What is longer is no signature, and would fill memory.
        signed = signed and sizes[str(SIGNATURE)] < LARGEST_SIGNATURE
        signature = read(store, f"{path}/{SIGNATURE}") if signed else None
    except (FileNotFoundError, NotADirectoryError):
        return ["there is no manifest: not published, or not by this pipeline"]
    except ManifestError as error:
        return [f"{MANIFEST}: {error}"]
    except OSError as error:
        return [f"cannot be read ({error})"]
    problems = identity_problems(manifest, model, name)
    if keys and (problem := signature_problem(signature, content, keys)):
        problems.append(problem)
    return problems + content_problems(manifest.files, found, foreign)


def archive_problems(store: Store, path: str, keys: Sequence[PublicKey] = ()) -> list[str]:
    """What is wrong with a hub archive, a line for each: it holds the version's own files.

    Of a version that was removed there is no manifest left: the archive's form is checked, and with
    keys its own manifest and signature.

    Args:
        store: of the tree.
        path: `hub/<publisher>/<model>/<version>.tar.gz`.
        keys: as in `tree_problems`.
    """
    matched = _ARCHIVE.fullmatch(path)
    if not matched or matched["model"] not in store.children(SERVING):
        return [f"is of no model of the tree; expected {HUB}/<publisher>/<model>/<version>.tar.gz"]
    version = version_path(matched["model"], matched["version"])
    try:
        manifest = parse_manifest(read(store, f"{version}/{MANIFEST}"))
        expected = archived_files(manifest.files)
    except (OSError, ManifestError):
        expected = None
    largest = LARGEST
    if expected is not None:
        sizes = store.sizes(version)
        if str(SIGNATURE) in sizes:
            expected += [_record(store, version, name, sizes[name]) for name in sorted(UNLISTED)]
        largest = sum(record.size for record in expected)
    problems = [str(entry) for entry in store.foreign(path)]
    try:
        with store.open(path) as file:
            found = check_archive(file, path, largest)
        if expected is None and keys:
            problem = archive_signature_problem(
                lambda: store.open(path), path, (matched["model"], matched["version"]), keys
            )
            problems += [problem] if problem else []
    except (ConfigError, OSError) as error:
        return [*problems, str(error).removeprefix(f"{path}: ")]
    return problems if expected is None else problems + difference(expected, found)


def models_config_problems(store: Store) -> list[str]:
    """What is wrong with a tree's models.config, a line for each: it leads to published versions.

    A base path is below the tree's `serving`, or below the directory that the last `write` was
    given.

    Args:
        store: of the tree.
    """
    problems = [str(entry) for entry in store.foreign(MODELS_CONFIG)]
    try:
        config = parse_models_config(read(store, MODELS_CONFIG), MODELS_CONFIG)
        roots = _base_path_roots(store)
    except (ConfigError, OSError) as error:
        return [*problems, str(error).removeprefix(f"{MODELS_CONFIG}: ")]
    published = {model: list(read_manifests(store, model)) for model in store.children(SERVING)}
    return problems + config_problems(config, published, roots)


def _base_path_roots(store: Store) -> set[str]:
    """Directories of base paths that are the tree's; empty where an earlier version wrote it."""
    try:
        root = parse_settings(read(store, SETTINGS), SETTINGS).base_path
    except FileNotFoundError:
        root = None
    serving = store.address(SERVING)
    return {root, serving if is_url(serving) else os.path.abspath(serving)} if root else set()


def _record(store: Store, version: str, name: str, size: int) -> FileRecord:
    digest = hashlib.sha256()
    with store.open(f"{version}/{name}") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return FileRecord(name, size, digest.hexdigest())


if __name__ == "__main__":
    sys.exit(run(main))
