"""The graph of the publish job, translated for an engine that no test can have.

python -m tests.support.cluster.translate FLAGS

Prints JSON: the names of the steps, and the image of the workers. Nothing is read or written.
"""

import json
import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.portable_runner import PortableRunner

from export.checkpoints.sources import Checkpoint
from export.variants import VARIANTS
from pipelines.elements import ConvertTask, Shard
from pipelines.publish.context import PublishContext
from pipelines.publish.options import parse
from pipelines.publish.transforms import add_steps
from pipelines.runtime.engines import runner_name
from pipelines.store.staging import Staging


def main(argv: list[str]) -> int:
    """Translates the graph of all variants that the flags name."""
    options, beam_options = parse(argv)
    variants = [VARIANTS[name] for name in options.variants or ()]
    weights = Checkpoint(f"{options.checkpoints}/weights.safetensors", "somewhere", "0" * 64, True)
    tasks = [ConvertTask(variant, options.heads, weights) for variant in variants]
    context = PublishContext(options=options, staging=Staging(options.publish_to, ".staging/run"))
    pipeline = beam.Pipeline(options=beam_options)
    add_steps(pipeline, context, tasks, [Shard(f"{options.publish_to}/shard", 1, attention=(0,))])
    proto = _translated(pipeline, beam_options)
    (environment,) = proto.components.environments.values()
    image = beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
    names = sorted(step.unique_name for step in proto.components.transforms.values())
    print(json.dumps({"steps": names, "image": image}))
    return 0


def _translated(pipeline: beam.Pipeline, options: PipelineOptions) -> beam_runner_api_pb2.Pipeline:
    if runner_name(options) == "PortableRunner":
        environment = PortableRunner._create_environment(options)
        return pipeline.to_runner_api(default_environment=environment)
    # With `--dry_run` the runner ends before the job is submitted.
    pipeline.run()
    proto: beam_runner_api_pb2.Pipeline = pipeline.runner.proto_pipeline
    return proto


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
