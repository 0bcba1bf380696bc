"""The options of the evaluation."""

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from export.errors import UserError
from signatures.addresses import absolute_address, absolute_glob, disk_path

from ..data.flags import add_image_flags, first_label
from ..runtime.command_line import JobParser, split_names, whole_number
from ..runtime.engines import DASK, beam_options, runner_name

_EXAMPLE = """\
example, over the validation images of ImageNet in one directory for each class:
  %(prog)s --models published/serving --data imagenet/val

Beam's flags, such as --runner and --direct_num_workers, are accepted too.
Exit status: 0 when every model was evaluated, 1 when one was not, 2 for a wrong input.
"""


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """The checked options of a run.

    Attributes:
        models: `serving` of a published tree, absolute or a URL.
        data: an ImageFolder's directory, or globs of files of many images.
        output: the directory that figures are kept in, absolute or a URL.
        variants: names of the models to evaluate, or of their variants; None for all that are
            published.
        versions: numbers or labels of the versions to evaluate, or `latest` or `all`.
        first_label: what the data calls class 0; None for what is usual for its layout.
        only_jpeg_png: whether images of other formats are left out, in place of being converted.
        batch_size: images of a request.
        table: a file whose table of results is filled in; None for none.
        shared_disk: whether the workers of an engine elsewhere see this machine's paths.
    """

    models: str
    data: tuple[str, ...]
    output: str
    variants: tuple[str, ...] | None
    versions: tuple[int | str, ...] | str
    first_label: int | None
    only_jpeg_png: bool
    batch_size: int
    table: pathlib.Path | None
    shared_disk: bool

    @property
    def places(self) -> list[tuple[str, str]]:
        """What workers read and write: flags, and the path or URL of each."""
        data = [("--data", pattern) for pattern in self.data]
        return [("--models", self.models), *data, ("--output", self.output)]


def parse(argv: Sequence[str], prog: str) -> tuple[EvaluateOptions, PipelineOptions]:
    """The checked options, and those that are Beam's.

    Raises:
        UserError: a flag is unknown, missing or has a value that it can't have.
        SystemExit: after `--help`.
    """
    parser = _parser(prog)
    flags, others = parser.parse_known_args(list(argv))
    # A class of options of its own would be Beam's for the whole process, and beside that of the
    # publish pipeline two flags would have one name.
    options = beam_options(others, vars(flags))
    for name in ("models", "data"):
        if not getattr(flags, name):
            raise UserError(f"--{name} is missing; --help says what it takes")
    if runner_name(options) == DASK:
        raise UserError(
            f"--runner {DASK}: it drops what RunInference emits at the end of a bundle, and with "
            "it figures; expected another runner"
        )
    return EvaluateOptions(
        models=flags.models,
        data=tuple(flags.data),
        output=flags.output or f"{flags.models.rsplit('/', 1)[0]}/evaluation",
        variants=None
        if flags.variants == "all"
        else tuple(split_names("--variants", flags.variants)),
        versions=_versions(flags.versions),
        first_label=first_label(flags.first_label),
        only_jpeg_png=flags.only_jpeg_png,
        batch_size=whole_number("--batch_size", flags.batch_size, 1),
        table=flags.table,
        shared_disk=flags.shared_disk,
    ), options


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = JobParser(
        prog,
        usage="%(prog)s --models DIR --data GLOB ... [flags]",
        description="Measures the accuracy of published classifiers, as they are served.",
        epilog=_EXAMPLE,
    )
    parser.add_argument(
        "--models",
        metavar="DIR",
        type=absolute_address,
        help="<publish_to>/serving of pipelines.publish (needed)",
    )
    parser.add_argument(
        "--data",
        metavar="GLOB",
        type=absolute_glob,
        nargs="+",
        help="a directory with one directory of images for each class, or globs of TFRecord files, "
        "Parquet files or WebDataset's tar files; paths or URLs (needed)",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=absolute_address,
        help="directory of the results (default: evaluation, beside --models)",
    )
    parser.add_argument(
        "--variants",
        metavar="NAMES",
        default="all",
        help="'all', or names of variants or of models, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--versions",
        metavar="VERSIONS",
        default="latest",
        help="'latest', 'all', or numbers and labels of models.config, such as stable, separated "
        "by commas (default: %(default)s)",
    )
    add_image_flags(parser)
    parser.add_argument(
        "--batch_size", metavar="N", default="16", help="images of a request (default: %(default)s)"
    )
    parser.add_argument(
        "--table",
        metavar="FILE",
        type=disk_path,
        help="a file whose table of results is filled in, such as README.md (default: none)",
    )
    parser.add_argument(
        "--shared_disk",
        action="store_true",
        help="the workers of a cluster have this machine's paths on a disk that all share "
        "(default: every path that they read or write has to be a URL)",
    )
    return parser


def _versions(value: str) -> tuple[int | str, ...] | str:
    if value in ("latest", "all"):
        return value
    names = split_names("--versions", value)
    return tuple(int(name) if name.isdecimal() else name for name in names)
