"""The models that the benchmarks measure: weights by rule, converted once and kept."""

import pathlib
import shutil

from export import checkpoint_source, get_variant, open_checkpoint
from signatures.labels import imagenet_labels


def converted(work: pathlib.Path, variant: str) -> pathlib.Path:
    """Directory of a variant's classifier; converted if it is not there.

    Args:
        work: where models are kept between runs. To be removed after a change of the conversion.
        variant: its name.
    """
    directory = work.resolve() / variant
    if not directory.exists():
        from export.convert import convert

        row = get_variant(variant)
        checkpoint = open_checkpoint(checkpoint_source("random"), row, work / "checkpoints")
        staged = work / f"{variant}.staged"
        shutil.rmtree(staged, ignore_errors=True)
        for _ in convert(
            variant, row.config, checkpoint.tensors(), {"classifier": staged}, imagenet_labels()
        ):
            pass
        staged.rename(directory)
    return directory
