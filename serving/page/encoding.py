"""Maps and photographs as text, as the page's scripts read them."""

import base64
import io

import numpy as np
from PIL import Image

from ..attention.maps import Array, scaled
from ..attention.photograph import Pixels


def as_text(values: Array) -> str:
    """A map, scaled by itself to one byte for each value."""
    return encoded(quantised(values).tobytes())


def maps_as_text(maps: Array) -> str:
    """Maps, each scaled by itself to one byte for each value."""
    return encoded(np.stack([quantised(values) for values in maps]).tobytes())


def quantised(values: Array) -> Pixels:
    """Values scaled from their range to 0 to 255."""
    return np.rint(scaled(values) * 255).astype(np.uint8)


def encoded(content: bytes) -> str:
    """Bytes in base64."""
    return base64.b64encode(content).decode("ascii")


def png_address(pixels: Pixels) -> str:
    """A picture as a `data:` address."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + encoded(file.getvalue())
