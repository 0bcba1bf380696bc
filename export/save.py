"""From a trained Keras model back to a checkpoint that the publish job takes."""

import json
import os
import pathlib
import uuid
from collections.abc import Sequence

import safetensors.numpy
import tf_keras

from .architecture import timm_arguments
from .checkpoints.files import CONFIG, LABELS, SUFFIXES, WEIGHTS
from .errors import UserError
from .part import find_part

_WRITTEN = (WEIGHTS, CONFIG, LABELS)


def save_checkpoint(
    model: tf_keras.Model,
    directory: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
) -> pathlib.Path:
    """Writes a model's weights, its variant and the names of its classes for `--checkpoints`.

    The directory has `model.safetensors`, with float32 tensors in timm's key layout; `config.json`,
    with the architecture, and with the sizes of one that is no variant; and, with `class_names`,
    `labels.txt`. The image size is that of the positions. Layers before the CaiT are not saved: a
    published model normalises images itself.

    Args:
        model: of `create_cait` or `load_model`; or a functional or Sequential model with one of
            them, or with a `hub.KerasLayer` of a published version, in it. The head is the CaiT's
            own, or a Dense layer behind its features, with or without Dropout between them.
        directory: made if it is missing; an earlier checkpoint in it is replaced.
        class_names: a name for each output of the head, in their order. None for a model without a
            head, and for ImageNet's classes or numbers.

    Returns:
        The directory.

    Raises:
        UserError: the model has no CaiT, several, or weights that a checkpoint cannot hold; or the
            directory has other files of weights.
        ValueError: there are not as many names as classes, or two are the same.
        OSError: a file cannot be written. What was there before has no weights then, or is as it
            was.
    """
    part = find_part(model)
    names = _checked_names(class_names, part.config.num_classes)
    target = pathlib.Path(directory)
    _require_own(target)
    config = {**timm_arguments(part.variant), "num_classes": part.config.num_classes}
    temporary = target / f".{uuid.uuid4().hex}"
    target.mkdir(parents=True, exist_ok=True)
    try:
        safetensors.numpy.save_file(part.read_weights(), temporary)
        # The library makes it for its owner alone; the publish job may be another user's.
        temporary.chmod(0o644)
        # Without weights until all is there: nothing is published with names of others.
        for name in _WRITTEN:
            (target / name).unlink(missing_ok=True)
        (target / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        if names:
            (target / LABELS).write_text("\n".join(names) + "\n", encoding="utf-8", newline="\n")
        temporary.rename(target / WEIGHTS)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _checked_names(names: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    if names is None:
        return ()
    if isinstance(names, str):
        raise ValueError(f"class_names is the text {names!r}; expected a name for each class")
    if len(names) != num_classes:
        raise ValueError(f"{len(names)} class_names; the model has {num_classes} classes")
    for name in names:
        if not name or name != name.strip() or len(name.splitlines()) > 1:
            raise ValueError(f"class name {name!r}; expected a line without spaces around it")
        if list(names).count(name) > 1:
            raise ValueError(f"class name {name!r} is there twice; expected names that differ")
    return tuple(names)


def _require_own(directory: pathlib.Path) -> None:
    """Checks that nothing but an earlier checkpoint would be read from a directory.

    Raises:
        UserError: it has another file of weights.
    """
    found = sorted(directory.iterdir()) if directory.is_dir() else []
    for path in found:
        if path.suffix in SUFFIXES and path.name not in _WRITTEN:
            raise UserError(
                f"{path}: another file of weights; expected a directory of its own for a checkpoint"
            )
