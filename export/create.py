"""New models, to be trained from the start."""

import dataclasses

import tf_keras

from .model import build_classifier
from .variants import get_variant


def create_cait(
    name: str,
    num_classes: int = 1000,
    *,
    dropout_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> tf_keras.Model:
    """A classifier of a variant's architecture with initial weights.

    Args:
        name: the variant's name.
        num_classes: outputs of the head.
        dropout_rate: as in `CaiTConfig`.
        drop_path_rate: as in `CaiTConfig`.

    Returns:
        A trainable functional model, as `export.model.build_classifier` describes it.

    Raises:
        UserError: there is no such variant.
        ValueError: a number is not possible.
    """
    config = dataclasses.replace(
        get_variant(name).config,
        num_classes=num_classes,
        dropout_rate=dropout_rate,
        drop_path_rate=drop_path_rate,
    )
    return build_classifier(config, name)
