"""A model is refused for the worst that was found on any shard."""

import dataclasses

import pytest

from export.checkpoints.sources import Checkpoint
from export.variants import get_variant
from pipelines.elements import OutputDifference, ShardResult, StagedModel
from pipelines.publish.decision import judge

STAGED = StagedModel(
    get_variant("cait_xxs24_224"),
    "classifier",
    Checkpoint("x", "x", "0", False),
    seconds={"write": 2.0},
)


def figure(difference: float, image: str = "cat.jpg") -> OutputDifference:
    return OutputDifference("serving_default", "logits", difference, 1e-4, image)


def test_worst_shard_decides():
    results = [
        ShardResult((figure(1e-6),), images=4, attention_images=2, seconds={"load": 1.0}),
        ShardResult((figure(2e-4, "tiny.png"),), images=4, seconds={"load": 1.0}),
    ]
    report = judge(STAGED, results, 0)
    assert report.failures == (
        "serving_default: logits differs by 0.0002 on tiny.png; at most 0.0001 is allowed",
    )
    assert report.worst == 2e-4
    assert report.images == 8
    assert report.attention_images == 2
    assert report.seconds == {"write": 2.0, "load": 2.0}


def test_shard_that_could_not_be_compared_refuses_the_model():
    report = judge(STAGED, [ShardResult((figure(0.0),)), ShardResult(error="it broke")], 0)
    assert report.failures == ("it broke",)


HUB = dataclasses.replace(
    STAGED,
    checkpoint=Checkpoint(
        "x", "hf://timm/cait_xxs24_224.fb_dist_in1k@5a/model.safetensors", "0", True
    ),
)


@pytest.mark.parametrize(
    ("staged", "setting", "correct", "refused"),
    [
        # The published top-1 of cait_xxs24_224 is 78.524: of 1000 images 785 are expected, with a
        # deviation of 13. 0.001 is at 3.3 deviations.
        (HUB, "auto", 785, False),
        (HUB, "auto", 744, False),
        (HUB, "auto", 740, True),
        (HUB, "auto", 828, True),
        (HUB, "off", 740, False),
        (STAGED, "auto", 740, False),
        (STAGED, "on", 740, True),
    ],
)
def test_count_that_contradicts_the_published_accuracy_refuses(staged, setting, correct, refused):
    results = [
        ShardResult((figure(0.0),), labelled=400, correct=correct - 400),
        ShardResult((figure(0.0),), labelled=600, correct=400),
    ]
    report = judge(staged, results, 0, setting)
    assert (report.labelled, report.correct) == (1000, correct)
    assert bool(report.failures) == refused
    if refused:
        (failure,) = report.failures
        assert failure.startswith(
            f"top-1 is right on {correct} of 1000 images; the published 78.524 % is 785.2 of them "
            "(p = "
        )


def test_feature_extractors_and_unlabelled_samples_have_no_accuracy():
    features = dataclasses.replace(HUB, head="features")
    assert judge(features, [ShardResult((figure(0.0),))], 0, "on").failures == ()
