"""What a run converts: checkpoints, opened and checked before anything is written."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

from export import VARIANTS, Checkpoint, UserError, Variant, get_variant, open_checkpoint
from export.architecture import is_own
from export.checkpoints.sizes import fit_to_size
from export.checkpoints.sources import CheckpointSource
from export.errors import CheckpointError

from ..data.checkpoints import labels_beside, open_source
from ..elements import ConvertTask
from ..runtime.workers import longest_first
from .class_names import parse_labels, read_labels, with_labels
from .options import PublishOptions, require_one


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
    for variant in longest_first(_variants(options, source)):
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
        elif beside := labels_beside(checkpoint):
            checkpoint = _with_labels_beside(checkpoint, *beside)
        if options.model_name:
            sized = sized.named(options.model_name)
        tasks[sized.name] = ConvertTask(sized, options.heads, checkpoint)
    return [tasks[variant.name] for variant in longest_first(t.variant for t in tasks.values())]


def _variants(options: PublishOptions, source: CheckpointSource) -> Sequence[Variant]:
    """The variants: as asked for, as the weights say, or all."""
    if options.variants is not None:
        return [get_variant(name) for name in options.variants]
    found = source.architecture()
    subject = f"--checkpoints {options.checkpoints}"
    if found is not None:
        print(f"note: {subject}: weights of {found.name}", file=sys.stderr)
    variants = tuple(VARIANTS.values()) if found is None else (found,)
    if options.model_name:
        require_one(options.model_name, [variant.name for variant in variants])
    if found is not None and is_own(found) and options.model_name in (None, found.name):
        # No model of somebody's own is named as an architecture is.
        raise UserError(
            f"{subject}: {found.name} is an architecture of its own, no variant; expected "
            "--model_name with another name for its models"
        )
    return variants


def _with_labels_beside(checkpoint: Checkpoint, address: str, content: bytes) -> Checkpoint:
    labels = parse_labels(content, address)
    print(f"note: {address}: names of {len(labels)} classes", file=sys.stderr)
    return with_labels(checkpoint, labels, address)
