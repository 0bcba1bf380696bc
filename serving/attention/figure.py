"""The picture: photograph, saliency, labels and the maps of every head."""

import dataclasses
import io
import math
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from .maps import Array
from .models import AttentionResult
from .photograph import Photograph

COLOURS = "cividis"
"""The colour map. It is perceptually uniform and suits colour-blind readers.
Source: Nunez et al., "Optimizing colormaps with consideration for color vision deficiency" (2018).
"""

MOST_COLUMNS = 8
"""The most heads in a row."""

_WIDTH = 11.0
_TOP = 3.7
_TITLE = 0.42
_DOTS = 110


@dataclasses.dataclass(frozen=True)
class PatchAttention:
    """Where one patch looks.

    Attributes:
        block: number of the self-attention block.
        row: row of the patch.
        column: column of the patch.
        maps: (H, G, G) float32; see `patch_attention_maps`.
    """

    block: int
    row: int
    column: int
    maps: Array


def draw(
    title: str, photograph: Photograph, result: AttentionResult, patch: PatchAttention | None = None
) -> Figure:
    """The whole picture.

    Args:
        title: title of the picture.
        photograph: the photograph.
        result: the model's result for it.
        patch: adds where this patch looks.
    """
    heads = len(result.maps[0])
    columns = min(heads, MOST_COLUMNS)
    rows = math.ceil(heads / columns)
    # Few heads are centred instead of enlarged to the width.
    tile = min(_WIDTH / columns, 2.3)
    band = _TITLE + rows * (tile + 0.1)
    bands = [(f"Class-attention block {block}", maps) for block, maps in enumerate(result.maps)]
    if patch is not None:
        where = f"Self-attention block {patch.block}, from the patch in row {patch.row}, "
        bands.append((f"{where}column {patch.column} (framed)", patch.maps))
    heights = [_TOP, *[band] * len(bands)]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.4), dpi=_DOTS, layout="constrained")
    figure.suptitle(title)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_top(parts[0], photograph, result, patch)
    for part, (text, maps) in zip(parts[1:], bands, strict=True):
        part.suptitle(text, fontsize="medium")
        _draw_heads(part, maps, rows, columns, patch if maps is bands[-1][1] else None)
    return figure


def render(figure: Figure, form: Literal["png", "svg"]) -> bytes:
    """The picture as a file: the same bytes for the same picture, and text in an SVG as text."""
    file = io.BytesIO()
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[form]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "attention"}):
        figure.savefig(file, format=form, metadata=metadata)
    return file.getvalue()


def _draw_top(
    part: SubFigure, photograph: Photograph, result: AttentionResult, patch: PatchAttention | None
) -> None:
    seen, over, best = part.subplots(1, 3, width_ratios=(1.1, 1.1, 1))
    for axes, text in (
        (seen, "As the model saw it"),
        (over, "Saliency (mean of class-attention block 0)"),
    ):
        axes.imshow(photograph.shown)
        axes.set_title(text, fontsize="medium")
        axes.set_axis_off()
    left, top, size = photograph.left, photograph.top, photograph.size
    height, width = photograph.shown.shape[:2]
    drawn = over.imshow(
        result.saliency,
        cmap=COLOURS,
        vmin=0,
        vmax=1,
        alpha=0.6,
        extent=(left - 0.5, left + size - 0.5, top + size - 0.5, top - 0.5),
    )
    over.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    part.colorbar(
        drawn, ax=(seen, over), location="bottom", shrink=0.5, aspect=40, label="least to most"
    )
    if patch is not None:
        side = size / patch.maps.shape[1]
        corner = (left + patch.column * side - 0.5, top + patch.row * side - 0.5)
        _frame(seen, corner, side)
    _draw_best(best, result)


def _draw_best(axes: Axes, result: AttentionResult) -> None:
    if result.best is None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "A feature extractor:\nit names no classes", ha="center", va="center")
        return
    axes.set_title(f"Top {len(result.best)}", fontsize="medium")
    places = range(len(result.best))
    probabilities = [probability for _, probability in result.best]
    axes.barh(places, probabilities, height=0.35, color=mpl.colormaps[COLOURS](0.25))
    for place, (label, probability) in zip(places, result.best, strict=True):
        axes.text(0, place - 0.27, f"{label}  {percent(probability)}", va="bottom", fontsize=9)
    axes.set(xlim=(0, 1), ylim=(len(result.best) - 0.5, -0.75))
    axes.set_axis_off()


def _draw_heads(
    part: SubFigure, maps: Array, rows: int, columns: int, patch: PatchAttention | None
) -> None:
    grid = part.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for head, (axes, values) in enumerate(zip(grid, maps, strict=False)):
        axes.imshow(values, cmap=COLOURS, interpolation="nearest")
        axes.set_title(f"head {head}, to {values.max():.2g}", fontsize=8)
        if patch is not None:
            _frame(axes, (patch.column - 0.5, patch.row - 0.5), 1)


def _frame(axes: Axes, corner: tuple[float, float], side: float) -> None:
    # White within black is visible on any colour.
    for colour, width in (("black", 3.0), ("white", 1.2)):
        axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, lw=width))


def percent(probability: float) -> str:
    """A probability as text: `31.2 %`, or `< 0.1 %`."""
    return f"{probability:.1%}".replace("%", " %") if probability >= 0.001 else "< 0.1 %"
