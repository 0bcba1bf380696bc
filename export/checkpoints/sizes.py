"""The image size of a model, where its weights or its user ask for another than the variant's."""

import math

from ..architecture import MOST_PATCHES
from ..errors import CheckpointError, UserError
from ..variants import VARIANTS, Variant
from .sources import Checkpoint


def fit_to_size(
    variant: Variant, checkpoint: Checkpoint, image_size: int | None = None
) -> tuple[Variant, tuple[str, ...]]:
    """The variant at the image size of the model that is made of a checkpoint.

    A model of another size has another name, which is never that of another variant. So all
    versions of a name are of one size.

    Args:
        variant: the variant that the checkpoint was opened for.
        checkpoint: the checkpoint.
        image_size: the size that is asked for; None for that of the checkpoint's positions.

    Returns:
        `variant` itself where nothing differs from it, else one with `origin`; and notes on what
        differs, a line for each.

    Raises:
        CheckpointError: the positions are of another variant's size, and no size is asked for.
        UserError: the size that is asked for is another variant's, no multiple of a patch's,
            or too large, see `check_image_size`.
    """
    own, found = variant.config.image_size, checkpoint.image_size
    size = found if image_size is None else image_size
    if size == found == own:
        return variant, ()
    check_image_size(size, variant)
    sized = variant.at_size(size)
    if size != own and sized.name in VARIANTS:
        if image_size is None:
            raise CheckpointError(
                f"checkpoint {checkpoint.path} for {variant.name}: its positions are of images of "
                f"{found} pixels, as those of {sized.name}; expected --variants {sized.name}, or "
                f"--image_size {own} to resample them"
            )
        raise UserError(
            f"--image_size {size}: {variant.name} of that size is {sized.name}, another variant; "
            f"expected --variants {sized.name}"
        )
    notes = []
    if size != found:
        notes.append(f"positions of images of {found} pixels resampled for {size}")
    if size != own:
        notes.append(f"for images of {size} pixels, not {own} as {variant.name}'s")
    return sized, tuple(notes)


def check_image_size(image_size: int, variant: Variant) -> None:
    """Checks that patches fill an image, and that a model can be run on it.

    Raises:
        UserError: they do not, or there would be more than `MOST_PATCHES`.
    """
    patch = variant.config.patch_size
    largest = math.isqrt(MOST_PATCHES) * patch
    if image_size > largest:
        raise UserError(
            f"--image_size {image_size}: the attention of a block grows with its fourth power; "
            f"expected at most {largest}"
        )
    if image_size < 1 or image_size % patch:
        below = max(image_size // patch, 1) * patch
        raise UserError(
            f"--image_size {image_size}: {variant.name} needs a multiple of {patch}, the size of "
            f"its patches; expected {below} or {below + patch}"
        )
