"""The contract as a table for the documentation."""

from .contract import BOTH, Head, TensorContract, signatures_for
from .geometry import Geometry

# Of these sizes, only the number of class-attention blocks changes the rows of the table.
_ANY = Geometry(
    image_size=1, patches=1, heads=1, embed_dim=1, num_classes=5, sa_blocks=1, ca_blocks=2
)


def signature_table() -> str:
    """The table of signatures in Markdown, with the shapes in letters; it ends with a newline."""
    by_head = {head: signatures_for(head, _ANY) for head in BOTH}
    names = list(dict.fromkeys(name for head in BOTH for name in by_head[head]))
    # In the order of the classifier, which has every signature.
    lines = ["| signature | inputs | outputs | models |", "|---|---|---|---|"]
    for name in names:
        heads: list[Head] = [head for head in BOTH if name in by_head[head]]
        outputs = list(dict.fromkeys(_tensors(by_head[head][name].outputs) for head in heads))
        cells = (
            f"`{name}`",
            _tensors(by_head[heads[0]][name].inputs),
            "; `_fe`: ".join(outputs),
            "both" if len(heads) == len(BOTH) else heads[0],
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _tensors(tensors: tuple[TensorContract, ...]) -> str:
    return ", ".join(
        f"`{tensor.name}` {tensor.dtype} ({_shape(tensor.shape)})" for tensor in tensors
    )


def _shape(shape: tuple[str | int, ...]) -> str:
    # A batch of scalars is written like a Python tuple of one.
    text = ", ".join("5" if size == "top" else str(size) for size in shape)
    return text + "," if len(shape) == 1 else text
