"""What a run converts: checkpoints, opened and checked before anything is written."""

import dataclasses
import pathlib
import sys

from export import UserError, get_variant, open_checkpoint
from export.checkpoints.sizes import fit_to_size
from export.errors import CheckpointError

from ..data.checkpoints import open_source
from ..elements import ConvertTask
from ..runtime.workers import longest_first
from .class_names import read_labels, with_labels
from .options import PublishOptions


def prepare_tasks(options: PublishOptions, cache: pathlib.Path) -> list[ConvertTask]:
    """Opens the checkpoint of every variant, and says on the terminal what was done to read it.

    Args:
        options: the job's.
        cache: a directory for files that a source writes.

    Returns:
        A task for each variant, the longest first.

    Raises:
        UserError: a checkpoint cannot be published as the options ask for it.
    """
    source = open_source(options.checkpoints, options.revision)
    labels = read_labels(options.labels) if options.labels else None
    tasks: dict[str, ConvertTask] = {}
    for variant in longest_first(map(get_variant, options.variants)):
        checkpoint = open_checkpoint(source, variant, cache, options.weights, ask=True)
        if not checkpoint.num_classes and "classifier" in options.heads:
            raise CheckpointError(
                f"checkpoint {checkpoint.path}: no classification head (no tensor 'head.weight'); "
                "expected one, or --heads features"
            )
        sized, notes = fit_to_size(variant, checkpoint, options.image_size)
        checkpoint = dataclasses.replace(checkpoint, notes=(*checkpoint.notes, *notes))
        for note in checkpoint.notes:
            print(f"note: {checkpoint.source}: {note}", file=sys.stderr)
        if sized.name in tasks:
            other = tasks[sized.name].variant
            raise UserError(
                f"--variants: {(other.origin or other).name} and {variant.name} would both be "
                f"{sized.name}; expected one of them"
            )
        if labels:
            checkpoint = with_labels(checkpoint, labels, f"--labels {options.labels}")
        if options.model_name:
            sized = sized.named(options.model_name)
        tasks[sized.name] = ConvertTask(sized, options.heads, checkpoint)
    return [tasks[variant.name] for variant in longest_first(t.variant for t in tasks.values())]
