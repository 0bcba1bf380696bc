"""Conversion of a variant into staged models."""

import dataclasses
import time
import uuid

from export.errors import one_line
from signatures.labels import default_labels

from ..elements import ConvertTask, StagedModel, StagedVariant
from ..runtime.progress import report_step
from .context import PublishContext


def convert_variant(task: ConvertTask, context: PublishContext) -> StagedVariant:
    """Converts a checkpoint into a model for each head, in the staging area.

    A head that cannot be converted is staged with its error.
    """
    from export.convert import convert

    base = StagedModel(
        task.variant,
        task.heads[0],
        task.checkpoint,
        compute_dtype=context.options.compute_dtype,
    )
    # Unique to the attempt: a runner may have two at once.
    attempt = context.staging / uuid.uuid4().hex
    models: list[StagedModel] = []
    error = ""
    started = time.perf_counter()
    try:
        for converted in convert(
            task.variant.name,
            base.config,
            task.checkpoint.tensors(),
            {head: attempt / task.variant.model_name(head) for head in task.heads},
            context.labels or default_labels(base.config.num_classes),
            task.checkpoint.trained,
            context.options.compute_dtype,
        ):
            files = (path for path in converted.directory.rglob("*") if path.is_file())
            staged = dataclasses.replace(
                base,
                head=converted.head,
                path=str(converted.directory),
                parameters=converted.parameters,
                bytes=sum(file.stat().st_size for file in files),
                seconds=converted.seconds,
            )
            models.append(staged)
            ended = time.perf_counter()
            report_step(context.progress, "convert", staged.model, ended - started)
            started = ended
    except Exception as failure:
        error = f"conversion failed: {one_line(failure)}"
    done = {model.head for model in models}
    models += [
        dataclasses.replace(base, head=head, error=error) for head in task.heads if head not in done
    ]
    return StagedVariant(tuple(models))
