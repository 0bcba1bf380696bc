"""Models for training: any number of classes, any image size, with or without a checkpoint."""

import dataclasses
import pathlib
import tempfile
from collections import ChainMap
from collections.abc import Mapping

import tf_keras

from .architecture import own_variant
from .checkpoints.sizes import fit_to_size
from .checkpoints.sources import checkpoint_source, open_checkpoint
from .errors import CheckpointError, UserError
from .model import build_classifier
from .positions import with_positions_for
from .variants import CaiTConfig, get_variant
from .weights import Array, assign_weights, read_weights

_HEAD = ("head.weight", "head.bias")


def create_cait(
    name: str | CaiTConfig,
    num_classes: int | None = None,
    *,
    image_size: int | None = None,
    checkpoints: str | None = None,
    revision: str | None = None,
    dropout_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> tf_keras.Model:
    """Builds a classifier, with timm's initial weights or those of a checkpoint.

    Args:
        name: a variant's name, or the sizes of an architecture of one's own. Rates of dropout in
            these are left out: they are arguments here.
        num_classes: outputs of the head. None: as many as the checkpoint has, or the variant's
            without a checkpoint. Where the checkpoint has another number or no head, the head keeps
            its initial weights.
        image_size: side of the square input in pixels, a multiple of a patch's. None: that of the
            checkpoint's positions, or the variant's without a checkpoint. For another size the
            checkpoint's positions are resampled, as timm does it.
        checkpoints: `hf`, a directory or a glob, as for the flag `--checkpoints`; None for initial
            weights.
        revision: branch, tag or commit of the hub's repository.
        dropout_rate: as in `CaiTConfig`.
        drop_path_rate: as in `CaiTConfig`.

    Returns:
        A trainable functional model, as `export.model.build_classifier` describes it.

    Raises:
        UserError: there is no such variant or file, the file does not fit the variant, or it has no
            head and `num_classes` is None.
        ValueError: a number is out of its range.
    """
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; it has to be at least 1")
    variant = own_variant(name) if isinstance(name, CaiTConfig) else get_variant(name)
    config = dataclasses.replace(
        variant.config,
        image_size=variant.config.image_size if image_size is None else image_size,
        num_classes=variant.config.num_classes if num_classes is None else num_classes,
        dropout_rate=dropout_rate,
        drop_path_rate=drop_path_rate,
    )
    if checkpoints is None:
        return build_classifier(config, variant.name)
    with tempfile.TemporaryDirectory() as cache:
        source = checkpoint_source(checkpoints, revision)
        try:
            checkpoint = open_checkpoint(source, variant, pathlib.Path(cache))
        except CheckpointError as error:
            # The messages are made for the flag of the commands.
            flag, argument = f"--checkpoints {checkpoints}", f"checkpoints={checkpoints!r}"
            raise CheckpointError(str(error).replace(flag, argument)) from None
        if num_classes is None:
            if not checkpoint.num_classes:
                raise UserError(
                    f"checkpoint {checkpoint.path}: no classification head; expected num_classes, "
                    "for a new one"
                )
            config = dataclasses.replace(config, num_classes=checkpoint.num_classes)
        if image_size is None:
            sized, _ = fit_to_size(variant, checkpoint)
            config = dataclasses.replace(config, image_size=sized.config.image_size)
        classifier = build_classifier(config, variant.name, initial=False)
        tensors = _fitted(checkpoint.tensors(), classifier, config, checkpoint.num_classes)
        assign_weights(classifier, config, tensors)
    return classifier


def _fitted(
    tensors: Mapping[str, Array], classifier: tf_keras.Model, config: CaiTConfig, found_classes: int
) -> Mapping[str, Array]:
    """A checkpoint's tensors with positions and a head that fit the model."""
    tensors = with_positions_for(config, tensors)
    if found_classes == config.num_classes:
        return tensors
    initial = read_weights(classifier, config)
    # Not a copy: the largest checkpoint has 1.4 GB.
    return ChainMap({key: initial[key] for key in _HEAD}, tensors)  # type: ignore[arg-type]
