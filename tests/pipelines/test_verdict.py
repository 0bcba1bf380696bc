"""A model is refused for the worst that was found on any shard."""

from export.checkpoints import Checkpoint
from pipelines.records import Figure, ShardResult, StagedModel
from pipelines.verdict import judge

STAGED = StagedModel(
    "cait_xxs24_224", "classifier", Checkpoint("x", "x", "0", False), seconds={"write": 2.0}
)


def figure(difference: float, image: str = "cat.jpg") -> Figure:
    return Figure("serving_default", "logits", difference, 1e-4, image)


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
