"""A picture of where a model looks: `python -m serving.attention photo.jpg --model cait_xxs24_224`.

The command calls a model server, or runs a SavedModel in this process. `serving.attention.maps`
computes the maps, `serving.attention.figure` draws them.
"""

import argparse
import contextlib
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from serving_configs.tree.atomic import write_atomically
from signatures.addresses import disk_path
from signatures.files import read_file
from signatures.image_header import ImageHeaderError, check_image_header
from signatures.other_formats import as_png, is_jpeg_or_png
from signatures.quiet import load_tensorflow
from signatures.untrained import WARNING

from ..client.channels import SERVER
from ..command_line import CommandParser, UsageError, add_server_flags, fail, require_matplotlib

if TYPE_CHECKING:
    from .models import AttentionModel

FORMS: dict[str, Literal["png", "svg"]] = {".png": "png", ".svg": "svg"}


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog,
        description="Draws where a model looks in a photograph. The command calls a model server,\n"
        "or runs a SavedModel in this process.",
        epilog="example, with a server on this machine:\n"
        "  %(prog)s photo.jpg --model cait_xxs24_224 --output attention.png",
    )
    parser.add_argument(
        "photograph",
        type=disk_path,
        help="JPEG or PNG, of any size; other formats, such as WebP, are converted",
    )
    add_server_flags(parser, SERVER, "a call")
    parser.add_argument(
        "--model", metavar="NAME", help="name of a model of the server (needed with a server)"
    )
    version = parser.add_mutually_exclusive_group()
    version.add_argument(
        "--model_version", metavar="N", type=int, help="its version (default: the latest)"
    )
    version.add_argument(
        "--label", metavar="NAME", help="label of the version, instead (default: none)"
    )
    parser.add_argument(
        "--saved_model",
        metavar="DIR",
        type=disk_path,
        help="a version's directory, instead of a server (default: none)",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=disk_path,
        default=pathlib.Path("attention.png"),
        help="the picture, .png or .svg (default: %(default)s)",
    )
    parser.add_argument(
        "--self_attention",
        type=int,
        metavar="BLOCK",
        help="adds where one patch looks (default: no block)",
    )
    parser.add_argument(
        "--patch",
        type=_patch,
        metavar="ROW,COL",
        help="which patch, from 0,0 (needed with a block)",
    )
    return parser


def _patch(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+),(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"not ROW,COL: {text!r}")
    return int(match[1]), int(match[2])


def _parse(argv: Sequence[str], prog: str) -> argparse.Namespace:
    flags = _parser(prog).parse_args(argv)
    require_matplotlib("pictures")
    if flags.saved_model is not None:
        of_server = (flags.server, flags.model, flags.model_version, flags.label)
        if any(value is not None for value in of_server):
            raise UsageError(
                "--saved_model goes without --server, --model, --model_version and --label"
            )
    elif flags.model is None:
        raise UsageError("--model NAME (of a server) or --saved_model DIR is needed")
    if (flags.self_attention is None) != (flags.patch is None):
        raise UsageError("--self_attention and --patch are needed together")
    if flags.output.suffix.lower() not in FORMS:
        raise UsageError(f"--output={flags.output}: the name has to end in .png or .svg")
    if not flags.output.parent.is_dir():
        raise UsageError(f"--output={flags.output}: no such directory: {flags.output.parent}")
    return flags


def main(argv: Sequence[str] | None = None, prog: str = "python -m serving.attention") -> int:
    """Draws the picture of one photograph.

    Args:
        argv: arguments; by default those of the process.
        prog: name of the command in its help.

    Returns:
        The exit status: 0, or 2 with one line about what is wrong and nothing written.
    """
    try:
        flags = _parse(sys.argv[1:] if argv is None else argv, prog)
        encoded = _read(flags.photograph)
        # Native decoders log what is wrong with an image; this command prints it.
        load_tensorflow()
        picture = _picture(flags, encoded)
    except UsageError as error:
        return fail("attention", error)
    try:
        write_atomically(flags.output, picture)
    except OSError as error:
        return fail("attention", f"--output={flags.output}: {error.strerror}")
    print(f"attention: {flags.output}")
    return 0


def _read(photograph: pathlib.Path) -> bytes:
    try:
        encoded = read_file(photograph)
        if not is_jpeg_or_png(encoded):
            encoded, found = as_png(encoded)
            print(
                f"note: {photograph}: not a JPEG or PNG but {found}; taken as a PNG of the same "
                "pixels",
                file=sys.stderr,
            )
        check_image_header(encoded)
    except ImageHeaderError as error:
        raise UsageError(f"{photograph}: {error}") from error
    except OSError as error:
        raise UsageError(f"{photograph}: {error.strerror}") from error
    return encoded


def _picture(flags: argparse.Namespace, encoded: bytes) -> bytes:
    from .loaded import loaded_model
    from .models import AttentionError
    from .photograph import UnreadableImageError
    from .served import served_model

    with contextlib.ExitStack() as stack:
        try:
            if flags.saved_model is not None:
                model = stack.enter_context(loaded_model(flags.saved_model))
            else:
                server = flags.server or SERVER
                served = served_model(
                    server, flags.model, flags.model_version, flags.timeout, flags.label
                )
                model = stack.enter_context(served)
            return _picture_of(flags, encoded, model)
        except UnreadableImageError as error:
            raise UsageError(f"{flags.photograph}: {error}") from error
        except AttentionError as error:
            raise UsageError(str(error)) from error


def _picture_of(flags: argparse.Namespace, encoded: bytes, model: "AttentionModel") -> bytes:
    from .figure import PatchAttention, draw, render
    from .maps import patch_attention_maps
    from .photograph import read_photograph

    photograph = read_photograph(encoded, model.image_size)
    result = model.explain(photograph)
    patch = None
    if flags.self_attention is not None:
        blocks = model.self_attention_blocks()
        if not 0 <= flags.self_attention < blocks:
            raise UsageError(f"--self_attention={flags.self_attention}: 0 to {blocks - 1}")
        row, column = flags.patch
        attention = model.self_attention(photograph, flags.self_attention)
        try:
            maps = patch_attention_maps(attention, row, column)
        except ValueError as error:
            raise UsageError(f"--patch: {error}") from error
        patch = PatchAttention(flags.self_attention, row, column, maps)
    version = "" if model.version is None else f" version {model.version}"
    title = f"{flags.photograph.name}, {model.name}{version}"
    if model.untrained:
        title += f"\n{WARNING}"
        print(f"note: {model.name}{version}: {WARNING}", file=sys.stderr)
    figure = draw(title, photograph, result, patch)
    return render(figure, FORMS[flags.output.suffix.lower()])
