"""The graph: its counters, and that all of it can be sent to workers."""

import pathlib
import pickle

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from export.checkpoints.sources import RandomSource, open_checkpoint
from pipelines.data.shards import plan_shards
from pipelines.elements import ConvertTask
from pipelines.publish.context import PublishContext
from pipelines.publish.options import parse
from pipelines.publish.transforms import Convert, Publish, Report, Validate
from pipelines.store.staging import Staging
from tests.support.conversions import conversions_reused
from tests.support.labelled_records import write_shard

pytestmark = pytest.mark.slow


def context(tree: pathlib.Path) -> PublishContext:
    flags = ["--variants", "all", "--checkpoints", "random", "--accuracy_gate", "off"]
    options, _ = parse([*flags, "--sample_shard", "none", "--publish_to", str(tree)])
    return PublishContext(options=options, staging=Staging(str(tree), ".staging/run"))


def test_counters_and_distributions_tell_what_was_done(tiny_variant, tmp_path, data):
    run = context(tmp_path)
    checkpoint = open_checkpoint(RandomSource(), tiny_variant, tmp_path)
    tasks = [ConvertTask(tiny_variant, ("classifier", "features"), checkpoint)]
    photo = (data / "photos" / "cat.jpg").read_bytes()
    for number in range(2):
        write_shard(tmp_path / f"sample-{number}", [(photo, None)])
    pipeline = beam.Pipeline(runner=FnApiRunner())
    (
        pipeline
        | beam.Create(tasks)
        | Convert(run)
        | Validate(run, [tiny_variant], plan_shards([f"{tmp_path}/sample-*"]))
        | Publish(run)
        | Report(run)
    )
    with conversions_reused():
        result = pipeline.run()
        result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace("cait"))
    counters = {entry.key.metric.name: entry.committed for entry in found["counters"]}
    size = sum(
        path.stat().st_size
        for path in (tmp_path / "serving").rglob("*")
        # What is written for servers comes after the conversion.
        if path.is_file()
        and path.parent.name != "assets.extra"
        and path.name != "batching_params.pbtxt"
    )
    assert counters == {
        "models_converted": 2,
        "models_published": 2,
        "bytes_written": size,
        "images_compared": 4,
        "images_undecodable": 0,
    }
    distributions = {entry.key.metric.name: entry.committed for entry in found["distributions"]}
    assert {name: entry.count for name, entry in distributions.items()} == {
        "convert_milliseconds": 1,
        "validate_milliseconds": 2,
        "publish_milliseconds": 2,
    }
    assert distributions["convert_milliseconds"].min > 0


def test_transforms_and_elements_pickle(tmp_path: pathlib.Path):
    run = context(tmp_path)
    for transform in (Convert(run), Validate(run, (), ()), Publish(run), Report(run)):
        assert pickle.loads(pickle.dumps(transform)).__dict__.keys() == transform.__dict__.keys()
