"""The flags of the commands that read labelled images."""

import argparse

from ..runtime.command_line import whole_number


def add_image_flags(parser: argparse.ArgumentParser) -> None:
    """Adds what says how classes are numbered and which files count."""
    parser.add_argument(
        "--first_label",
        metavar="N",
        help="what the labels of files call class 0: 0 or 1 (default: 0, but what WordNet ids "
        "beside the labels say)",
    )
    parser.add_argument(
        "--only_jpeg_png",
        action="store_true",
        help="leave out images of other formats (default: they are converted to PNG)",
    )


def first_label(value: str | None) -> int | None:
    """The value of `--first_label`.

    Raises:
        UserError: it is no number.
    """
    return None if value is None else whole_number("--first_label", value, 0)
