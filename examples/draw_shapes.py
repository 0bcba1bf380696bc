"""Photographs of shapes, drawn: a labelled set that costs no download.

    python -m examples.draw_shapes --images 600 --to build/shapes/test.tar

A photograph has one bright shape, of any hue, size, place and angle, before dark spots and lines.
So a model has to find the shape to name it.
"""

import argparse
import dataclasses
import io
import math
import pathlib
import sys
import tarfile
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from signatures.addresses import disk_path

CLASSES = ("circle", "cross", "ring", "square", "star", "triangle")

Points = list[tuple[float, float]]

TRAINING_SEED = 1
TEST_SEED = 2

# Width and height of the photographs of a set for tests.
_SIZES = ((144, 144), (192, 144), (144, 192))

_FINER = 2
"""Pixels of the drawing for each of the photograph: edges are smooth."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A photograph of a shape.

    Attributes:
        image: the photograph, RGB.
        label: the number of its class in `CLASSES`.
        box: left, top, right and bottom edge of the shape, in pixels.
    """

    image: Image.Image
    label: int
    box: tuple[float, float, float, float]

    def encoded(self) -> bytes:
        """The content of a JPEG file of the photograph."""
        file = io.BytesIO()
        self.image.save(file, "JPEG", quality=92)
        return file.getvalue()


def draw_shape(
    seed: tuple[int, int], label: int | None = None, width: int = 96, height: int = 96
) -> Shape:
    """Draws a photograph: the same for the same numbers on every machine.

    Args:
        seed: of the set, and the number of the photograph in it.
        label: the number of the class; None for one by chance.
        width: of the photograph in pixels.
        height: of the photograph in pixels.
    """
    random = np.random.default_rng(seed)
    if label is None:
        label = int(random.integers(len(CLASSES)))
    side = min(width, height)
    image = _background(random, width * _FINER, height * _FINER)
    radius = side * random.uniform(0.2, 0.36)
    # In the centre that a model is shown of a photograph that is no square.
    x, y = (length / 2 + random.uniform(-1, 1) * (side / 2 - radius) for length in (width, height))
    points = _points(CLASSES[label], random, x, y, radius)
    _fill(image, points, _bright(random))
    image = image.resize((width, height), Image.Resampling.BOX)
    outline = np.array(points[0])
    (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
    return Shape(image, label, (left, top, right, bottom))


def _background(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Soft dark spots of several colours, and thin lines before them."""
    base = random.uniform(20, 100) + random.normal(0, 20, 3)
    spots = np.clip(base + random.normal(0, 25, (4, 5, 3)), 0, 150)
    image = Image.fromarray(spots.astype(np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(2, 7)):
        ends = random.uniform(0, 1, (2, 2)) * (width, height)
        colour = np.clip(base + random.normal(0, 50, 3), 0, 170).astype(int)
        draw.line([tuple(end) for end in ends], tuple(colour), width=max(1, height // 96))
    return image.filter(ImageFilter.GaussianBlur(height / 200))


def _bright(random: np.random.Generator) -> tuple[int, int, int]:
    """A colour that is brighter than the background, of any hue."""
    tried = random.uniform(0, 255, (64, 3))
    luminance = tried @ (0.299, 0.587, 0.114)
    red, green, blue = tried[(luminance > 165).argmax()].astype(int)
    return int(red), int(green), int(blue)


def _points(
    name: str, random: np.random.Generator, x: float, y: float, radius: float
) -> tuple[Points, Points]:
    """The corners of a shape's outline, and of the hole in it, if there is one."""
    turn = random.uniform(0, 2 * math.pi)

    def around(radii: list[float]) -> Points:
        angles = [turn + 2 * math.pi * i / len(radii) for i in range(len(radii))]
        return [
            (x + radius * r * math.cos(a), y + radius * r * math.sin(a))
            for r, a in zip(radii, angles, strict=True)
        ]

    if name == "square":
        return around([1.0] * 4), []
    if name == "triangle":
        return around([1.0] * 3), []
    if name == "star":
        return around([1.0, 0.42] * 5), []
    if name == "cross":
        arm = 0.3
        corners = [(1, -arm), (1, arm), (arm, arm), (arm, 1), (-arm, 1), (-arm, arm)]
        corners += [(-a, -b) for a, b in corners]
        cos, sin = math.cos(turn), math.sin(turn)
        return [
            (x + radius * (a * cos - b * sin), y + radius * (a * sin + b * cos)) for a, b in corners
        ], []
    circle = around([0.9] * 64)
    return circle, around([0.45] * 64) if name == "ring" else []


def _fill(image: Image.Image, points: tuple[Points, Points], colour: tuple[int, int, int]) -> None:
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    for corners, value in zip(points, (255, 0), strict=True):
        if corners:
            draw.polygon([(_FINER * x, _FINER * y) for x, y in corners], fill=value)
    image.paste(colour, mask=mask)


def write_shard(path: pathlib.Path, images: int, seed: int) -> None:
    """Writes photographs with their classes as WebDataset does: a tar file of images and numbers.

    The classes come in turn. The photographs are as wide as they are high, wider, or higher.

    Args:
        path: the file; its directory is made if it is missing.
        images: how many photographs.
        seed: of the set.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, shape in enumerate(drawn_set(images, seed)):
            for suffix, content in (("jpg", shape.encoded()), ("cls", b"%d" % shape.label)):
                member = tarfile.TarInfo(f"shape-{number:05}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def drawn_set(images: int, seed: int) -> Iterator[Shape]:
    """The photographs that `write_shard` writes."""
    for number in range(images):
        width, height = _SIZES[number // len(CLASSES) % len(_SIZES)]
        yield draw_shape((seed, number), number % len(CLASSES), width, height)


def write_photograph(path: pathlib.Path) -> None:
    """Writes one photograph by itself, larger: a star."""
    path.parent.mkdir(parents=True, exist_ok=True)
    star = draw_shape((TEST_SEED, 46), CLASSES.index("star"), 480, 384)
    path.write_bytes(star.encoded())


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a set of photographs, and maybe one more by itself."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.draw_shapes",
        description="Draws photographs of shapes, with their classes, into a tar file.",
    )
    parser.add_argument("--to", metavar="FILE", type=disk_path, required=True, help="tar file")
    for name, default, text in (
        ("images", 600, "how many photographs"),
        ("seed", TEST_SEED, "of the set"),
    ):
        text = f"{text} (default: {default})"
        parser.add_argument(f"--{name}", metavar="N", type=int, default=default, help=text)
    parser.add_argument(
        "--photograph", metavar="FILE", type=disk_path, help="writes one more by itself, a JPEG"
    )
    flags = parser.parse_args(argv)
    write_shard(flags.to, flags.images, flags.seed)
    print(f"{flags.to}: {flags.images} photographs of {len(CLASSES)} shapes")
    if flags.photograph:
        write_photograph(flags.photograph)
    return 0


if __name__ == "__main__":
    sys.exit(main())
