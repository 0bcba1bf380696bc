"""Images labelled by the reference: it is known before which answers of a model are right."""

import dataclasses
import io
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from export.reference.forward_pass import forward
from export.reference.preprocessing import load_pixels, normalize
from export.variants import CaiTConfig
from tests.support.arrays import Tensors

# Alphabetical order would be another one.
ZOO = ("zebra", "yak", "wolf", "vole", "tapir", "swan", "rhea", "quail", "puma", "owl")


@dataclasses.dataclass(frozen=True)
class Labelled:
    """An image, the class given to it, and that class's place in the reference's answer."""

    encoded: bytes
    label: int
    rank: int


def ranked_images(
    config: CaiTConfig, tensors: Tensors, ranks: Sequence[int], seed: int
) -> list[Labelled]:
    """Images whose ranking by the reference is clear where it decides.

    Args:
        config: the model's sizes.
        tensors: its weights.
        ranks: for each image, the place in that ranking of the class that it is labelled with.
        seed: of the images.
    """
    generator = np.random.default_rng(seed)
    chosen: list[Labelled] = []
    while len(chosen) < len(ranks):
        encoded = [_png(generator) for _ in range(100)]
        pixels = np.stack([load_pixels(image, config.image_size) for image in encoded])
        logits = forward(tensors, normalize(pixels)).logits
        assert logits is not None
        for image, row in zip(encoded, logits, strict=True):
            order = np.argsort(-row, kind="stable")
            best = row[order]
            clear = min(best[0] - best[1], best[4] - best[5], best[-2] - best[-1]) > 1e-3
            if clear and len(chosen) < len(ranks):
                rank = ranks[len(chosen)]
                chosen.append(Labelled(image, int(order[rank]), rank))
    return chosen


def _png(generator: np.random.Generator) -> bytes:
    # Smooth and noisy by turns, so that the reference does not answer the same for all.
    coarse = generator.integers(0, 256, (3, 3, 3), np.uint8)
    image = Image.fromarray(coarse).resize((24, 24), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def pairs_of(images: Sequence[Labelled]) -> list[tuple[bytes, int]]:
    """Encoded images and their classes, as what writes files takes them."""
    return [(image.encoded, image.label) for image in images]


def counts(images: Sequence[Labelled]) -> tuple[int, int, int]:
    """How many there are, and of how many the class is the best one, and among the best five."""
    return (
        len(images),
        sum(image.rank == 0 for image in images),
        sum(image.rank < 5 for image in images),
    )


def write_folder(root: pathlib.Path, images: Sequence[Labelled], name: Callable[[int], str]) -> str:
    """An ImageFolder, with these names of the classes' directories."""
    for number, image in enumerate(images):
        directory = root / name(image.label)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number}.PNG").write_bytes(image.encoded)
    return str(root)


def entry_of(output: pathlib.Path) -> dict[str, Any]:
    """What an evaluation wrote about the one model."""
    entry: dict[str, Any]
    (entry,) = json.loads((output / "evaluation.json").read_text())["models"]
    return entry


def counts_of(entry: dict[str, Any]) -> tuple[int, int, int]:
    """What an evaluation counted, as `counts` does."""
    return entry["images"], entry["top1"]["correct"], entry["top5"]["correct"]
