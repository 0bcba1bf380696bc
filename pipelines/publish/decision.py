"""The decision whether a model is published, from what the gate found."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from ..elements import ModelReport, OutputDifference, ShardResult, StagedModel, add_seconds
from ..gate.accuracy import AccuracyGate, contradiction, is_tested


def judge(
    staged: StagedModel,
    results: Sequence[ShardResult],
    max_bad_images: int,
    accuracy_gate: AccuracyGate = "off",
) -> ModelReport:
    """Gathers what the gate found on every shard, and says why a model is refused, if it is."""
    worst = _worst(figure for result in results for figure in result.figures)
    report = ModelReport(
        model=staged.model,
        variant=staged.variant.name,
        head=staged.head,
        hub_handle="",
        version=None,
        path="",
        parameters=staged.parameters,
        bytes=staged.bytes,
        worst=_main_difference(staged, worst),
        figures=tuple(worst),
        images=sum(result.images for result in results),
        attention_images=sum(result.attention_images for result in results),
        bad_images=tuple(image for result in results for image in result.bad_images),
        seconds=add_seconds(staged.seconds, *(result.seconds for result in results)),
        checkpoint=staged.checkpoint,
        failures=(),
        labelled=sum(result.labelled for result in results),
        correct=sum(result.correct for result in results),
        measured=next((result.measured for result in results if result.measured), None),
        compute_dtype=staged.compute.dtype,
        profile=staged.compute.profile,
    )
    # Without a model there is nothing that the gate could have found.
    errors = [staged.error] if staged.error else [r.error for r in results if r.error]
    judged = (
        *errors,
        *(str(figure) for figure in worst if not figure.within_tolerance),
        *_too_many_bad_images(report.bad_images, max_bad_images),
        *_wrong_accuracy(staged, report, accuracy_gate),
    )
    return dataclasses.replace(report, failures=judged)


def _worst(figures: Iterable[OutputDifference]) -> list[OutputDifference]:
    """The worst difference of every output of every signature, in the order of their names.

    The gate finds them in an order that depends on its threads.
    """
    worst: dict[tuple[str, str], OutputDifference] = {}
    for figure in figures:
        key = (figure.signature, figure.output)
        worst[key] = figure.worse(worst[key]) if key in worst else figure
    return [worst[key] for key in sorted(worst)]


def _main_difference(staged: StagedModel, worst: Iterable[OutputDifference]) -> float | None:
    """The worst difference of the logits or features that a client gets by default."""
    output = "logits" if staged.head == "classifier" else "features"
    main = ("serving_default", output)
    return next((f.difference for f in worst if (f.signature, f.output) == main), None)


def _too_many_bad_images(bad: Sequence[str], allowed: int) -> Iterator[str]:
    if len(bad) > allowed:
        yield (
            f"{len(bad)} images of the sample cannot be decoded, such as {bad[0]}; "
            f"--max_bad_images allows {allowed}"
        )


def _wrong_accuracy(
    staged: StagedModel, report: ModelReport, accuracy_gate: AccuracyGate
) -> Iterator[str]:
    if report.labelled and is_tested(accuracy_gate, staged):
        published = staged.variant.top1
        found = contradiction(report.correct, report.labelled, published)
        if found:
            yield found
