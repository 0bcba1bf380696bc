"""Writes a class-balanced, reproducible sample of labelled images as sample shards.

    python -m pipelines.sample_shard --images DIR_OR_GLOB --count N --seed S \
        --output sample-00000-of-00002

The same images and the same seed give the same bytes. Exit status: 0, or 2 for a wrong input.
"""

import argparse
import contextlib
import pathlib
import re
import sys
from collections.abc import Sequence

from export.errors import UserError

from .data.labelled import LabelledImage
from .data.sampling import open_source, sample
from .data.shards import IMAGE_KEY, LABEL_KEY, NAME_KEY
from .runtime.command_line import one_line_errors
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
    flags = _parser(prog).parse_args(argv)
    paths = shard_paths(flags.output)
    for name, least in (("count", len(paths)), ("first_label", 0)):
        if getattr(flags, name) < least:
            raise UserError(f"--{name} {getattr(flags, name)}; expected {least} or more")
    images = sample(open_source(flags.images, flags.first_label), flags.count, flags.seed)
    write_shards(paths, images)
    classes = len({image.label for image in images})
    print(f"{len(images)} images of {classes} classes in {', '.join(map(str, paths))}")
    return 0


def shard_paths(output: str) -> list[pathlib.Path]:
    """The files that `--output` stands for: all of them, when it is the first of so many."""
    matched = _SHARDED.fullmatch(output)
    if not matched:
        return [pathlib.Path(output)]
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

    written = {path: path.with_name(f".{path.name}.new") for path in paths}
    try:
        for number, (path, temporary) in enumerate(written.items()):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for image in images[number :: len(paths)]:
                    writer.write(_example(image))
        for path, temporary in written.items():
            temporary.replace(path)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", error)
        raise UserError(f"--output {paths[0]}: cannot be written ({reason})") from None
    finally:
        for temporary in written.values():
            with contextlib.suppress(OSError):
                temporary.unlink()


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


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog,
        description="Writes a class-balanced sample of labelled images as TFRecord files, for\n"
        "`publish --sample_shard`. The same images and the same seed give the same bytes.",
        epilog="example, a thousand images in two files:\n"
        "  %(prog)s --images imagenet/val --count 1000 --output shards/sample-00000-of-00002",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--images",
        metavar="SOURCE",
        required=True,
        help="directory with one directory of images for each class, or a glob of TFRecord files "
        "(needed)",
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
        required=True,
        help="the file to write; <name>-00000-of-00002 writes two (needed)",
    )
    parser.add_argument(
        "--first_label",
        metavar="N",
        default=0,
        type=int,
        help="what the TFRecord files call class 0: 0 or 1 (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
