"""Publication of a validated model: the decision, the files for servers, the release."""

import dataclasses
import time
from collections.abc import Sequence

from export.errors import one_line
from serving_configs import hub_handle
from signatures.program import disk_full

from ..elements import ModelReport, ShardResult, StagedModel, add_seconds
from ..runtime.progress import Step, report_step
from ..store.release import ReleaseError, StagedFiles, release
from .configs import serving_files
from .context import PublishContext
from .decision import judge
from .draft import draft_manifest


def publish_model(
    staged: StagedModel, results: Sequence[ShardResult], context: PublishContext
) -> ModelReport:
    """Releases a model if it passed the gate on every shard.

    Returns:
        What is reported of it; `failures` says why it was refused, or could not be written.
    """
    started = time.perf_counter()
    options = context.options
    report = judge(staged, results, options.max_bad_images, options.accuracy_gate)
    if not report.failures:
        try:
            report = _release(staged, report, context)
        except (OSError, ReleaseError) as error:
            if disk_full(error):
                raise  # No other model has more room.
            failure = f"publishing failed: {one_line(error)}"
            report = dataclasses.replace(report, failures=(failure,))
    seconds = time.perf_counter() - started
    report_step(context.staging, Step("publish", report.model, "", seconds))
    return dataclasses.replace(report, seconds=add_seconds(report.seconds, {"publish": seconds}))


def _release(staged: StagedModel, report: ModelReport, context: PublishContext) -> ModelReport:
    options, staging = context.options, context.staging
    released = release(
        staging.store,
        StagedFiles(f"{staging.path}/{staged.path}", staged.files, serving_files(staged, report)),
        draft_manifest(staged, report, staging.run),
        options.version,
        options.allow_untrained,
    )
    return dataclasses.replace(
        report,
        version=released.version,
        path=released.path,
        unchanged=not released.new,
        hub_handle=hub_handle(options.hub_publisher, report.model, released.version),
    )
