"""Puts timm's weights from the model hub into a directory, for `--checkpoints DIRECTORY`.

    python -m pipelines.fetch_weights --variants cait_xxs24_224 --to weights

The directory can be copied to a machine without a network. Exit status: 0, or 2 for a wrong input
or weights that the hub does not deliver.
"""

import contextlib
import hashlib
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Sequence

from export.checkpoints.hub import HubSource
from export.checkpoints.sources import open_checkpoint
from export.errors import UserError
from export.variants import VARIANTS, get_variant
from serving_configs.tree.atomic import open_atomically
from signatures.addresses import disk_path
from signatures.program import run

from .runtime.command_line import JobParser, one_line_errors, split_names


@one_line_errors
def main(argv: Sequence[str] | None = None, prog: str = "python -m pipelines.fetch_weights") -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.
        prog: the command as its help writes it.

    Returns:
        The exit status.
    """
    flags = _parser(prog).parse_args(argv)
    names = list(VARIANTS)
    if flags.variants != "all":
        names = [get_variant(name).name for name in split_names("--variants", flags.variants)]
    for name in names:
        _fetch(name, flags.to, flags.revision)
    return 0


def _parser(prog: str) -> JobParser:
    parser = JobParser(
        prog,
        description="Puts timm's weights from the model hub into a directory.",
        epilog="example, and how its result is published:\n"
        "  %(prog)s --variants cait_xxs24_224 --to weights\n"
        "  cait publish --variants cait_xxs24_224 --checkpoints weights \\\n"
        "      --sample_shard 'shards/sample-*' --publish_to published\n\n"
        "A file that is there with the hub's content is not fetched again. HF_HOME, HF_ENDPOINT,\n"
        "HF_TOKEN and HF_HUB_OFFLINE work as always.\n"
        "Exit status: 0, or 2 for a wrong input or weights that the hub does not deliver.",
    )
    parser.add_argument(
        "--variants",
        metavar="NAMES",
        required=True,
        help="'all', which is 4.4 GB, or names separated by commas (needed)",
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=disk_path,
        required=True,
        help="directory of <variant>.safetensors; it is made where it is missing (needed)",
    )
    parser.add_argument(
        "--revision",
        metavar="NAME",
        help="branch, tag or commit of the repositories (default: main)",
    )
    return parser


def _fetch(name: str, directory: pathlib.Path, revision: str | None) -> None:
    """Puts a variant's weights in place, whole, once all of its tensors are checked."""
    with tempfile.TemporaryDirectory() as unused:
        found = open_checkpoint(HubSource(revision), get_variant(name), pathlib.Path(unused))
    target = directory / f"{name}.safetensors"
    try:
        if _sha256(target) == found.sha256:
            print(f"{target}: there already, {found.source}")
            return
        with open_atomically(target) as temporary:
            shutil.copyfile(found.path, temporary)
    except OSError as error:
        raise UserError(
            f"--to {directory}: {target.name} cannot be written ({error.strerror or error})"
        ) from None
    print(f"{target}: {target.stat().st_size / 1e6:.0f} MB, {found.source}, SHA-256 {found.sha256}")


def _sha256(path: pathlib.Path) -> str | None:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return None


if __name__ == "__main__":
    sys.exit(run(main))
