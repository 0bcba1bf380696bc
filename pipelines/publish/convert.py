"""Conversion of a variant into staged models."""

import dataclasses
import json
import pathlib
import time
import uuid

from export.errors import one_line
from serving_configs import FileRecord, record_files
from signatures.program import disk_full

from ..data.checkpoints import on_this_worker
from ..elements import ConvertTask, StagedModel, StagedVariant
from ..runtime.progress import Step, report_step
from .context import PublishContext


def convert_variant(task: ConvertTask, context: PublishContext) -> StagedVariant:
    """Converts a checkpoint into a model for each head, in the staging area.

    Finds what an earlier attempt of the run has staged. A head that cannot be converted is staged
    with its error.
    """
    base = StagedModel(
        task.variant,
        task.heads[0],
        task.checkpoint,
        compute=context.options.compute,
    )
    record = f"models/{task.variant.name}/record.json"
    if (found := context.staging.read(record)) is not None:
        return _from_record(base, found)
    with context.staging.directory() as directory:
        models, error = _convert(task, context, base, directory / "models")
        if models:
            # Unique to the attempt: a runner may have two at once.
            path = f"models/{task.variant.name}/{uuid.uuid4().hex}"
            context.staging.put_directory(directory / "models", path)
            models = [dataclasses.replace(model, path=f"{path}/{model.model}") for model in models]
    done = {model.head for model in models}
    failed = [
        dataclasses.replace(base, head=head, error=error) for head in task.heads if head not in done
    ]
    staged = StagedVariant((*models, *failed))
    if not failed:
        context.staging.write(record, _as_record(staged))
    return staged


def _convert(
    task: ConvertTask, context: PublishContext, base: StagedModel, directory: pathlib.Path
) -> tuple[list[StagedModel], str]:
    """Makes a model for each head, up to the first that fails, and says why that failed."""
    from export.convert import convert

    models: list[StagedModel] = []
    started = time.perf_counter()
    try:
        for converted in convert(
            task.variant.model_name("classifier"),
            base.config,
            on_this_worker(task.checkpoint, task.variant).tensors(),
            {head: directory / task.variant.model_name(head) for head in task.heads},
            task.checkpoint.class_names,
            task.checkpoint.trained,
            context.options.compute,
        ):
            staged = dataclasses.replace(
                base,
                head=converted.head,
                files=record_files(converted.directory),
                parameters=converted.parameters,
                seconds=converted.seconds,
            )
            models.append(staged)
            ended = time.perf_counter()
            report_step(context.staging, Step("convert", staged.model, "", ended - started))
            started = ended
    except Exception as failure:
        if disk_full(failure):
            raise  # No other model has more room.
        return models, f"conversion failed: {one_line(failure)}"
    return models, ""


_RECORDED = ("head", "path", "files", "parameters", "seconds")


def _as_record(staged: StagedVariant) -> bytes:
    models = [dataclasses.asdict(model) for model in staged.models]
    return json.dumps([{name: model[name] for name in _RECORDED} for model in models]).encode()


def _from_record(base: StagedModel, record: bytes) -> StagedVariant:
    return StagedVariant(
        tuple(
            dataclasses.replace(
                base, **{**model, "files": tuple(FileRecord(**file) for file in model["files"])}
            )
            for model in json.loads(record)
        )
    )
