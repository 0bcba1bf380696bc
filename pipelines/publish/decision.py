"""What is decided from what the gate found."""

from collections.abc import Sequence

from ..elements import ModelReport, OutputDifference, ShardResult, StagedModel, add_seconds
from ..gate.accuracy import AccuracyGate, contradiction, is_tested


def judge(
    staged: StagedModel,
    results: Sequence[ShardResult],
    max_bad_images: int,
    accuracy_gate: AccuracyGate = "off",
) -> ModelReport:
    """Gathers what the gate found on every shard, and says why a model is refused, if it is."""
    worst: dict[tuple[str, str], OutputDifference] = {}
    for figure in (figure for result in results for figure in result.figures):
        key = (figure.signature, figure.output)
        worst[key] = figure.worse(worst[key]) if key in worst else figure
    bad = tuple(image for result in results for image in result.bad_images)
    failures = [staged.error] if staged.error else [r.error for r in results if r.error]
    failures += [str(figure) for figure in worst.values() if not figure.holds]
    if len(bad) > max_bad_images:
        failures.append(
            f"{len(bad)} images of the sample cannot be decoded, such as {bad[0]}; "
            f"--max_bad_images allows {max_bad_images}"
        )
    labelled = sum(result.labelled for result in results)
    correct = sum(result.correct for result in results)
    if labelled and is_tested(accuracy_gate, staged):
        failures += filter(None, [contradiction(correct, labelled, staged.row.top1)])
    main = "logits" if staged.head == "classifier" else "features"
    compared = worst.get(("serving_default", main))
    return ModelReport(
        model=staged.model,
        variant=staged.variant,
        head=staged.head,
        hub_handle="",
        version=None,
        path="",
        parameters=staged.parameters,
        bytes=staged.bytes,
        worst=compared.difference if compared else None,
        figures=tuple(worst.values()),
        images=sum(result.images for result in results),
        attention_images=sum(result.attention_images for result in results),
        bad_images=bad,
        seconds=add_seconds(staged.seconds, *(result.seconds for result in results)),
        checkpoint=staged.checkpoint,
        failures=tuple(failures),
        labelled=labelled,
        correct=correct,
        measured=next((result.measured for result in results if result.measured), None),
        compute_dtype=staged.compute_dtype,
    )
