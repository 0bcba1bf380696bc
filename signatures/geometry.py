"""The sizes in the shapes of a model's signatures."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A model's sizes, by the letters of the signature table.

    Attributes:
        image_size: S, side of the square input in pixels.
        patches: N, patches of an image.
        heads: H, attention heads.
        embed_dim: D, width of a token.
        num_classes: K, outputs of the classification head; 0 where the weights have none.
        sa_blocks: self-attention blocks; `block` is below this.
        ca_blocks: class-attention blocks.
    """

    image_size: int
    patches: int
    heads: int
    embed_dim: int
    num_classes: int
    sa_blocks: int
    ca_blocks: int
