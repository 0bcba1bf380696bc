"""Writes a class-balanced, reproducible sample of labelled images as sample shards.

    python -m pipelines.sample_shard --images DIR_OR_GLOB --count N --seed S \
        --output sample-00000-of-00002

The same images and the same seed give the same bytes. Exit status: 0, or 2 for a wrong input.
"""

import contextlib
import pathlib
import re
import sys
from collections.abc import Iterable, Sequence

from apache_beam.io.filesystems import FileSystems

from export.errors import UserError
from serving_configs.tree.atomic import open_atomically
from signatures.addresses import absolute_glob, disk_path
from signatures.program import run

from .data.flags import add_image_flags, first_label
from .data.labelled import LabelledImage
from .data.records import IMAGE_KEY, LABEL_KEY, NAME_KEY
from .data.sampling import open_source, sample
from .runtime.command_line import JobParser, one_line_errors
from .runtime.engines import beam_options
from .runtime.quiet import load_tensorflow

_SHARDED = re.compile(r"(.*-)(\d{5})-of-(\d{5})")


@one_line_errors
def main(argv: Sequence[str] | None = None, prog: str = "python -m pipelines.sample_shard") -> int:
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
    paths = shard_paths(flags.output)
    if flags.count < len(paths):
        raise UserError(f"--count {flags.count}; expected {len(paths)} or more")
    first = first_label(flags.first_label)
    source = open_source(flags.images, first, flags.only_jpeg_png)
    if source.ordered:
        print(
            f"note: --images {flags.images}: no WordNet ids or numbers; its classes are numbered "
            "in the alphabetical order of their names",
            file=sys.stderr,
        )
    passed_over: list[LabelledImage] = []
    images = sample(source, flags.count, flags.seed, passed_over.append)
    write_shards(paths, images)
    classes = len({image.label for image in images})
    _print_notes(images, passed_over)
    print(f"{len(images)} images of {classes} classes in {', '.join(map(str, paths))}")
    return 0


def _print_notes(images: Iterable[LabelledImage], passed_over: Iterable[LabelledImage]) -> None:
    for image in images:
        if image.converted:
            print(f"note: {image.name}: {image.converted}, converted to PNG", file=sys.stderr)
    for image in passed_over:
        why = image.left_out or image.undecodable or "it cannot be decoded"
        print(f"note: {image.name}: passed over: {why}", file=sys.stderr)


def shard_paths(output: pathlib.Path) -> list[pathlib.Path]:
    """The files that `--output` stands for: all of them, when it is the first of so many."""
    matched = _SHARDED.fullmatch(str(output))
    if not matched:
        return [output]
    prefix, number, count = matched[1], int(matched[2]), int(matched[3])
    if number or not count:
        raise UserError(
            f"--output {output}; expected the first of some shards, such as "
            f"{prefix}00000-of-00002, or another name for a single one"
        )
    return [pathlib.Path(f"{prefix}{i:05}-of-{count:05}") for i in range(count)]


def write_shards(paths: Sequence[pathlib.Path], images: Sequence[LabelledImage]) -> None:
    """Deals images out to TFRecord files. All of them are written before any is put in place.

    Raises:
        UserError: a file can't be written.
    """
    load_tensorflow()
    import tensorflow as tf

    try:
        with contextlib.ExitStack() as stack:
            for number, path in enumerate(paths):
                temporary = stack.enter_context(open_atomically(path))
                with tf.io.TFRecordWriter(str(temporary)) as writer:
                    for image in images[number :: len(paths)]:
                        writer.write(_example(image))
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", error)
        raise UserError(f"--output {paths[0]}: cannot be written ({reason})") from None


def _example(image: LabelledImage) -> bytes:
    import tensorflow as tf

    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    label = tf.train.Int64List(value=[image.label])
    features = {
        IMAGE_KEY: feature(image.encoded),
        NAME_KEY: feature(image.name.encode()),
        LABEL_KEY: tf.train.Feature(int64_list=label),
    }
    message = tf.train.Example(features=tf.train.Features(feature=features))
    serialized: bytes = message.SerializeToString(deterministic=True)
    return serialized


def _parser(prog: str) -> JobParser:
    parser = JobParser(
        prog,
        description="Writes a class-balanced sample of labelled images as TFRecord files, for\n"
        "`publish --sample_shard`. The same images and the same seed give the same bytes.",
        epilog="example, a thousand images in two files:\n"
        "  %(prog)s --images imagenet/val --count 1000 --output shards/sample-00000-of-00002",
    )
    parser.add_argument(
        "--images",
        metavar="SOURCE",
        type=absolute_glob,
        required=True,
        help="directory with one directory of images for each class, or a glob of TFRecord files, "
        "Parquet files or WebDataset's tar files; a path or a URL (needed)",
    )
    parser.add_argument(
        "--count", required=True, type=int, metavar="N", help="images of the sample (needed)"
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        default=0,
        type=int,
        help="number of the choice (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=disk_path,
        required=True,
        help="the file to write; <name>-00000-of-00002 writes two (needed)",
    )
    add_image_flags(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
