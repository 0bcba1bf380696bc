"""The photos that the command classifies: read, sent one at a time, and what is printed of them."""

import dataclasses
import json
import pathlib
from typing import Any

from signatures.addresses import AddressError, disk_path
from signatures.files import read_file
from signatures.graph_errors import reason
from signatures.image_header import ImageHeaderError, check_image_header
from signatures.other_formats import as_png, is_jpeg_or_png
from signatures.untrained import WARNING

from .blocking import Client
from .calls import FailedImagesError, blames_inputs
from .channels import ClientError
from .types import Label


@dataclasses.dataclass
class Photo:
    """A file: its data and later its classes, or what is wrong with it.

    Attributes:
        name: as the user wrote it.
        path: the file.
        data: a JPEG or PNG.
        converted: the format that it is converted from, or empty.
        classes: the server's answer.
        problem: why there is none.
    """

    name: str
    path: pathlib.Path
    data: bytes = b""
    converted: str = ""
    classes: tuple[Label, ...] = ()
    problem: str | None = None


@dataclasses.dataclass
class Report:
    """The text to print, and lines for photos that were converted or have no answer."""

    text: str
    notes: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)


def named_photo(name: str) -> Photo:
    """A photo that is not read yet; one with a path that cannot be has its problem already."""
    try:
        return Photo(name, disk_path(name))
    except AddressError as error:
        # The others are answered.
        return Photo(name, pathlib.Path(), problem=str(error).removeprefix(f"{name}: "))


def read_photo(photo: Photo, only_jpeg_png: bool) -> None:
    """Reads a photo, as a PNG where it is of another format; sets `problem` where it can't be sent.

    Args:
        photo: the photo.
        only_jpeg_png: whether other formats are a problem.
    """
    if photo.problem is not None:
        return
    try:
        photo.data = read_file(photo.path)
        if not (only_jpeg_png or is_jpeg_or_png(photo.data)):
            photo.data, photo.converted = as_png(photo.data)
        check_image_header(photo.data)
    except OSError as error:
        photo.problem = str(error.strerror)
    except ImageHeaderError as error:
        photo.problem = str(error)


def classify(client: Client, photos: list[Photo], as_json: bool) -> Report:
    """Calls the server for every photo that was read.

    Raises:
        ClientError: no photo is to blame.
    """
    for photo in photos:
        if photo.problem is not None:
            continue
        try:
            # One photo in a request: each has the whole timeout, and requests stay small.
            (photo.classes,) = client.classify(photo.data)
        except FailedImagesError as error:
            photo.problem = _described(error.failures[0])
        except ClientError as error:
            if not blames_inputs(error):
                raise
            photo.problem = _described(error)
    if not any(photo.classes for photo in photos):
        return classified(photos, as_json)
    try:
        return classified(photos, as_json, client.metadata().untrained)
    except ClientError as error:
        report = classified(photos, as_json)
        report.notes.append(f"whether the weights are trained is not known ({error.message})")
        return report


def classified(photos: list[Photo], as_json: bool, untrained: bool = False) -> Report:
    """What is printed of photos.

    Args:
        photos: with classes or problems.
        as_json: whether for programs.
        untrained: whether the model's weights are random.
    """
    problems = [f"{photo.name}: {photo.problem}" for photo in photos if photo.problem is not None]
    notes = [
        f"{photo.name}: not a JPEG or PNG but {photo.converted}; sent as a PNG of the same pixels"
        for photo in photos
        if photo.converted
    ]
    if as_json:
        entries = [_entry(photo, untrained) for photo in photos]
        return Report(json.dumps(entries, indent=2), notes, problems)
    mark = f" ({WARNING})" if untrained else ""
    lines = []
    for photo in photos:
        if photo.problem is None:
            lines.append(f"{photo.name}{mark}")
            lines += [f"  {label.probability:8.4f}  {label.label}" for label in photo.classes]
    return Report("\n".join(lines), notes, problems)


def _entry(photo: Photo, untrained: bool) -> dict[str, Any]:
    """A photo as JSON has it; `untrained` is there where it is true."""
    entry: dict[str, Any] = {"image": photo.name}
    if photo.converted:
        entry["converted_from"] = photo.converted
    if photo.problem is not None:
        return {**entry, "error": photo.problem}
    if untrained:
        entry["untrained"] = True
    return {**entry, "classes": [label._asdict() for label in photo.classes]}


def _described(error: ClientError) -> str:
    message = reason(error.message)
    return str(ClientError(error.code, message, error.server, error.model))
