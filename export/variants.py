"""The ten CaiT variants and their configurations.

Architecture and names: Touvron et al., "Going deeper with Image Transformers" (2021), and timm's
`cait.py`. Published accuracies are the ImageNet-1k validation figures of timm's weights.
"""

import dataclasses
import difflib

from signatures import Geometry, Head

from .errors import UserError

# Part of the architecture: with other values the same weights give other outputs.
LAYER_NORM_EPSILON = 1e-6
MLP_RATIO = 4


@dataclasses.dataclass(frozen=True)
class CaiTConfig:
    """What determines a CaiT model's shapes and its behaviour in training.

    Attributes:
        image_size: side of the square input in pixels, a multiple of `patch_size`.
        patch_size: side of a patch in pixels.
        embed_dim: width of a token, a multiple of `heads`.
        heads: attention heads, in both kinds of block.
        sa_blocks: self-attention blocks, over the patches.
        ca_blocks: class-attention blocks, over the class token and the patches.
        layer_scale_init: initial value of every LayerScale gamma.
        num_classes: outputs of the classification head; 0 for a model without a head.
        dropout_rate: dropout in training, after the positions, and in the self-attention blocks
            after the talking heads, the projections and in the MLPs; 0 to below 1.
        drop_path_rate: stochastic depth of the self-attention blocks, in training; 0 to below 1.

    Raises:
        ValueError: a size is not positive, not the multiple that it should be, or a rate is
            outside its range.
    """

    image_size: int
    patch_size: int
    embed_dim: int
    heads: int
    sa_blocks: int
    ca_blocks: int = 2
    layer_scale_init: float = 1e-5
    num_classes: int = 1000
    dropout_rate: float = 0.0
    drop_path_rate: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "num_classes" else 1
            if field.type is int and value < least:
                raise ValueError(f"{field.name} is {value}; it has to be at least {least}")
            if field.name.endswith("_rate") and not 0.0 <= value < 1.0:
                raise ValueError(f"{field.name} is {value}; it has to be in [0, 1)")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.embed_dim % self.heads:
            raise ValueError(f"embed_dim {self.embed_dim} is not a multiple of heads {self.heads}")

    @property
    def patches(self) -> int:
        """Number of patches of an image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def acts_in_training(self) -> bool:
        """Whether a call in training differs from one in inference."""
        return bool(self.dropout_rate or self.drop_path_rate)

    @property
    def geometry(self) -> Geometry:
        """The sizes in the shapes of the signatures."""
        return Geometry(
            image_size=self.image_size,
            patches=self.patches,
            heads=self.heads,
            embed_dim=self.embed_dim,
            num_classes=self.num_classes,
            sa_blocks=self.sa_blocks,
            ca_blocks=self.ca_blocks,
        )


@dataclasses.dataclass(frozen=True)
class Variant:
    """Published weights and the configuration that they fit.

    Attributes:
        name: timm's name of the architecture.
        config: the model's configuration.
        parameters: trainable parameters of the classifier with 1000 classes.
        flops_g: multiply-adds of one image in units of 1e9, as in the paper.
        top1: published top-1 accuracy on ImageNet-1k's validation set, in percent.
        top5: published top-5 accuracy, in percent.
        deit_file: file of the original weights.
        origin: the variant that this is another size of; its weights are looked for. None for
            itself.
        own_name: name of the models of somebody's own weights; empty for the variant's.
    """

    name: str
    config: CaiTConfig
    parameters: int
    flops_g: float
    top1: float
    top5: float
    deit_file: str
    origin: "Variant | None" = None
    own_name: str = ""

    @property
    def network(self) -> str:
        """The name without the image size: variants with the same one have the same blocks."""
        return self.name.removesuffix(f"_{self.config.image_size}")

    def at_size(self, image_size: int) -> "Variant":
        """The variant for images of another size: named after it, and without published figures.

        Args:
            image_size: side of the square input in pixels; may be the variant's own.

        Raises:
            ValueError: the size is not a multiple of that of a patch.
        """
        config = dataclasses.replace(self.config, image_size=image_size)
        return dataclasses.replace(
            self,
            name=self.name
            if image_size == self.config.image_size
            else f"{self.network}_{image_size}",
            config=config,
            parameters=self.parameters + (config.patches - self.config.patches) * config.embed_dim
            if self.parameters
            else 0,
            # Nearly all multiply-adds are by patch.
            flops_g=self.flops_g * config.patches / self.config.patches,
            top1=0.0,
            top5=0.0,
            deit_file="",
            origin=self.origin or self,
        )

    def named(self, own_name: str) -> "Variant":
        """The variant for weights of somebody's own: of these no figures are published."""
        return dataclasses.replace(self, own_name=own_name, top1=0.0, top5=0.0)

    @property
    def hub_repository(self) -> str:
        """The repository of timm's weights on the model hub."""
        return f"timm/{self.name}.fb_dist_in1k"

    def model_name(self, head: Head) -> str:
        """The published name: the variant's or the models' own, with `_fe` for the features."""
        name = self.own_name or self.name
        return name if head == "classifier" else f"{name}_fe"


def _variant(
    name: str,
    image_size: int,
    embed_dim: int,
    heads: int,
    sa_blocks: int,
    layer_scale_init: float,
    *published: *tuple[int, float, float, float, str],
) -> Variant:
    config = CaiTConfig(
        image_size, 16, embed_dim, heads, sa_blocks, layer_scale_init=layer_scale_init
    )
    return Variant(name, config, *published)


# fmt: off
_TABLE = (
    # name    image embed heads blocks layer_scale  parameters  flops   top1    top5  original
    ("cait_xxs24_224", 224, 192,  4, 24, 1e-5,  11_956_264,   2.5, 78.524, 94.212, "XXS24_224.pth"),
    ("cait_xxs24_384", 384, 192,  4, 24, 1e-5,  12_029_224,   9.5, 80.648, 95.516, "XXS24_384.pth"),
    ("cait_xxs36_224", 224, 192,  4, 36, 1e-5,  17_299_720,   3.8, 79.760, 94.876, "XXS36_224.pth"),
    ("cait_xxs36_384", 384, 192,  4, 36, 1e-5,  17_372_680,  14.2, 81.976, 96.064, "XXS36_384.pth"),
    ("cait_xs24_384",  384, 288,  6, 24, 1e-5,  26_670_088,  19.3, 83.738, 96.756, "XS24_384.pth"),
    ("cait_s24_224",   224, 384,  8, 24, 1e-5,  46_916_200,   9.4, 83.368, 96.576, "S24_224.pth"),
    ("cait_s24_384",   384, 384,  8, 24, 1e-5,  47_062_120,  32.2, 84.944, 97.212, "S24_384.pth"),
    ("cait_s36_384",   384, 384,  8, 36, 1e-6,  68_366_632,  48.0, 85.192, 97.372, "S36_384.pth"),
    ("cait_m36_384",   384, 768, 16, 36, 1e-6, 271_221_352, 173.3, 85.924, 97.598, "M36_384.pth"),
    ("cait_m48_448",   448, 768, 16, 48, 1e-6, 356_460_520, 329.6, 86.066, 97.590, "M48_448.pth"),
)
# fmt: on

VARIANTS: dict[str, Variant] = {row[0]: _variant(*row) for row in _TABLE}


def get_variant(name: str) -> Variant:
    """Looks a variant up by its name.

    Raises:
        UserError: no variant has this name; the message has similar names.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    near = difflib.get_close_matches(name, VARIANTS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(VARIANTS)}"
    raise UserError(f"unknown variant {name!r}; {hint}")


def is_variant(name: str) -> bool:
    """Whether a name is a variant's, maybe at another image size."""
    try:
        find_variant(name)
    except UserError:
        return False
    return True


def find_variant(name: str) -> Variant:
    """Looks a variant up by its name, which may be of another image size: `cait_xxs24_288`.

    Raises:
        UserError: see `get_variant`.
    """
    network, _, size = name.rpartition("_")
    if name not in VARIANTS and size.isdecimal() and int(size):
        for variant in VARIANTS.values():
            if variant.network == network and not int(size) % variant.config.patch_size:
                return variant.at_size(int(size))
    return get_variant(name)
