"""What a count of right answers says of a model's accuracy."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

from export.errors import UserError
from serving_configs.tree.evaluation import Proportion

from ..elements import ConvertTask, Shard, StagedModel

AccuracyGate = Literal["auto", "on", "off"]
"""Whether the accuracy on a labelled sample is compared with the published one: for weights from
the model hub, for all, for none."""

CONFIDENCE = 0.95
INTERVAL = "Clopper-Pearson"
"""The exact interval: it holds the true accuracy at least as often as `CONFIDENCE` says."""

CONSISTENT_P = 0.001
"""A count that is less probable than this, under the published accuracy, contradicts it."""


def proportion(correct: int, images: int) -> Proportion | None:
    """The accuracy that was measured; None when there were no images."""
    if not images:
        return None
    interval = _test(correct, images).proportion_ci(CONFIDENCE, method="exact")
    return Proportion(100 * correct / images, 100 * interval.low, 100 * interval.high)


def contradiction(correct: int, images: int, published: float) -> str | None:
    """Says how a count contradicts the published accuracy, by the exact binomial test.

    Args:
        correct: right answers.
        images: all answers, at least one.
        published: accuracy in percent.

    Returns:
        One line, or None when the count is consistent with it.
    """
    p = float(_test(correct, images, published / 100).pvalue)
    if p >= CONSISTENT_P:
        return None
    return (
        f"top-1 is right on {correct} of {images} images; the published {published:.3f} % is "
        f"{images * published / 100:.1f} of them (p = {p:.2g}; at least {CONSISTENT_P} is expected)"
    )


def accuracy_gate(value: str) -> AccuracyGate:
    """The value of `--accuracy_gate`.

    Raises:
        UserError: it is none of them.
    """
    for setting in get_args(AccuracyGate):
        if value == setting:
            found: AccuracyGate = setting
            return found
    raise UserError(f"--accuracy_gate {value!r}; expected {', '.join(get_args(AccuracyGate))}")


def require_labels(setting: AccuracyGate, shards: Sequence[Shard]) -> None:
    """Checks that a sample can show an accuracy, where `--accuracy_gate on` needs one.

    Raises:
        UserError: it has no labels.
    """
    if setting == "on" and not any(shard.labelled for shard in shards):
        raise UserError(
            "--accuracy_gate on: no image of --sample_shard has an image/class/label; expected a "
            "labelled sample, as pipelines.sample_shard writes it"
        )


def require_published(setting: AccuracyGate, tasks: Iterable[ConvertTask]) -> None:
    """Checks that accuracies are published for the models, where `--accuracy_gate on` needs them.

    Raises:
        UserError: weights are somebody's own or of other classes, or a model is of another image
            size, than those that the figures were published for.
    """
    for task in tasks if setting == "on" else ():
        if task.variant.own_name:
            raise UserError(
                f"--accuracy_gate on: no accuracy is published of {task.variant.own_name}; "
                "expected --accuracy_gate off"
            )
        if origin := task.variant.origin:
            raise UserError(
                f"--accuracy_gate on: no accuracy is published of {origin.name} with positions for "
                f"{task.checkpoint.image_size} pixels on images of "
                f"{task.variant.config.image_size}; expected --accuracy_gate off"
            )
        found, expected = task.checkpoint.num_classes, task.variant.config.num_classes
        if found != expected:
            raise UserError(
                f"--accuracy_gate on: {task.checkpoint.path} has {found} classes; the published "
                f"accuracy of {task.variant.name} is of {expected}; expected --accuracy_gate off"
            )
        if task.checkpoint.labels:
            raise UserError(
                f"--accuracy_gate on: {task.checkpoint.path} has classes of its own names; the "
                f"published accuracy of {task.variant.name} is of ImageNet's; expected "
                "--accuracy_gate off"
            )


def untested(
    setting: AccuracyGate, tasks: Iterable[ConvertTask], shards: Sequence[Shard]
) -> str | None:
    """Says whose accuracy would be compared with the published one, if the sample had labels.

    Returns:
        One line, or None when every accuracy that should be compared is.
    """
    if any(shard.labelled for shard in shards):
        return None
    staged = [StagedModel(task.variant, task.heads[0], task.checkpoint) for task in tasks]
    names = [model.variant.name for model in staged if is_tested(setting, model)]
    if not names:
        return None
    return (
        f"the accuracy of {', '.join(names)} is not compared with the published one: no image of "
        "--sample_shard has an image/class/label; pipelines.sample_shard writes a labelled sample"
    )


def is_tested(setting: AccuracyGate, staged: StagedModel) -> bool:
    """Whether a model has to be as accurate as published for its variant."""
    if setting == "off" or not staged.has_published_accuracy:
        return False
    # Only the hub's weights are known to be those that the figures were published for.
    from_hub = staged.checkpoint.source.startswith(f"hf://{staged.variant.hub_repository}@")
    return setting == "on" or from_hub


def _test(correct: int, images: int, accuracy: float = 0.5) -> Any:
    # It takes a second to load, and most samples have no classes.
    from scipy.stats import binomtest

    return binomtest(correct, images, accuracy)
