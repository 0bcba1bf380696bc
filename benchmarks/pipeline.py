"""Where the time of a publish run goes, and how it grows: `python -m benchmarks.pipeline`.

Each line is a run of `pipelines.publish` in processes of its own, both heads of every variant, from
checkpoints that are on the disk before. Four parts:

- variants: the first of `--variants`, then the first two, and so on;
- images: the first variant with samples of several sizes;
- workers: all of `--variants`, in one process and in worker processes;
- all: the ten variants with the sample of eight and the most of `--workers`, which may take 15
  minutes. Not done unless it is asked for (`--only all`): it writes 14 GB and 4 GB of checkpoints
  below `--work`.

Seconds are those of the report, summed over the models: `read` is from the checkpoint into the
variables, `validation` loads a model and compares it, `measurement` is of its latency and memory
for the batching parameters. `rest` is of the run but of no model: starting, checking checkpoints,
configs and archives. With several workers the steps overlap, and there is no rest.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from export import VARIANTS, UserError, get_variant
from signatures.addresses import disk_path

from .models import random_checkpoint
from .process_tree import Ended, run
from .table import Result, as_markdown, machine, results_table

PARTS = ("variants", "images", "workers", "all")
# Columns -> steps of the report.
STEPS = {
    "read": ("assign",),
    "build": ("build",),
    "write": ("write",),
    "reference": ("reference",),
    "validation": ("load", "compare"),
    "measurement": ("measure",),
    "publish": ("publish",),
}
ALL_MINUTES = 15.0
_SAMPLE = pathlib.Path(__file__).parents[1] / "tests" / "data"
# Images of a sample at least: as many as have their attention compared.
_LEAST_IMAGES = 2


@dataclasses.dataclass(frozen=True)
class Run:
    """A run to be measured.

    Attributes:
        variants: their names.
        images: of the sample.
        workers: processes; 0 for the command's own alone.
    """

    variants: tuple[str, ...]
    images: int = 8
    workers: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.

    Returns:
        The exit status: 1 if a run published less than all of its models, or the run of all
        variants took too long.
    """
    parser = argparse.ArgumentParser(
        prog="benchmarks.pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default=",".join(PARTS[:-1]), help="parts, by commas")
    parser.add_argument(
        "--variants",
        default="cait_xxs24_224,cait_xxs24_384",
        help="'all', or names separated by commas",
    )
    parser.add_argument("--images", default="2,8,16", help="sizes of the sample, from 2")
    parser.add_argument("--workers", default="0,2", help="processes; 0 is the command's own")
    parser.add_argument("--work", type=disk_path, default="build/benchmarks")
    options = parser.parse_args(argv)
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only: unknown part {sorted(unknown)[0]!r}; known are {', '.join(PARTS)}")
    try:
        names = list(VARIANTS) if options.variants == "all" else options.variants.split(",")
        variants = tuple(get_variant(name).name for name in names)
    except UserError as error:
        parser.error(f"--variants: {error}")
    images = _numbers(parser, "--images", options.images, least=_LEAST_IMAGES)
    workers = _numbers(parser, "--workers", options.workers, least=0)
    rows, results = [], []
    for wanted in plan(parts, variants, images, workers):
        ended, report = publish(wanted, options.work)
        rows.append(line(wanted, ended, report))
        results.append(published(wanted, ended, report))
        print(as_markdown(HEADER, rows[-1:]), file=sys.stderr, flush=True)
    if "all" in parts:
        wanted = Run(tuple(VARIANTS), workers=max(workers))
        ended, report = publish(wanted, options.work)
        rows.append(line(wanted, ended, report))
        results += [published(wanted, ended, report), in_time(ended)]
        print(f"Seconds of the ten variants:\n\n{by_variant(report)}\n")
    print(f"{machine()}.\n\n{as_markdown(HEADER, rows)}\n\n{results_table(results)}")
    return 0 if all(result.holds for result in results) else 1


def _numbers(parser: argparse.ArgumentParser, flag: str, value: str, least: int) -> list[int]:
    numbers = [int(part) if part.isdecimal() else -1 for part in value.split(",")]
    if min(numbers) < least:
        parser.error(f"{flag} {value}; expected numbers from {least}, separated by commas")
    return numbers


def plan(
    parts: Sequence[str], variants: Sequence[str], images: Sequence[int], workers: Sequence[int]
) -> list[Run]:
    """The runs of the parts but `all`, each once."""
    runs = []
    if "variants" in parts:
        runs += [Run(tuple(variants[: i + 1])) for i in range(len(variants))]
    if "images" in parts:
        runs += [Run(tuple(variants[:1]), count) for count in images]
    if "workers" in parts:
        runs += [Run(tuple(variants), workers=count) for count in workers]
    return list(dict.fromkeys(runs))


def publish(wanted: Run, work: pathlib.Path) -> tuple[Ended, dict[str, Any]]:
    """Makes a run; what it publishes is removed.

    Args:
        wanted: what to publish.
        work: where checkpoints are kept between runs.

    Returns:
        How it ended, and its report; without models if there is none.
    """
    checkpoints = {
        pathlib.Path(random_checkpoint(work, name).path).parent for name in wanted.variants
    }
    (directory,) = checkpoints
    with tempfile.TemporaryDirectory(dir=work) as name:
        top = pathlib.Path(name)
        write_sample(top, wanted.images)
        command = [
            *(sys.executable, "-m", "pipelines.publish"),
            *("--variants", ",".join(wanted.variants), "--checkpoints", str(directory)),
            *("--sample_shard", str(top / "sample-*"), "--publish_to", str(top / "published")),
        ]
        if wanted.workers:
            command += ["--direct_running_mode", "multi_processing"]
            command += ["--direct_num_workers", str(wanted.workers)]
        ended = run(command, top / "log")
        report = top / "published" / "report.json"
        content: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    return ended, content or {"models": []}


def write_sample(directory: pathlib.Path, images: int) -> None:
    """Writes a sample of as many images, in one file, from those of the tests, over and over.

    In several files it would be one model and file at a time, with a model loaded for each.
    """
    import tensorflow as tf

    paths = sorted(str(path) for path in _SAMPLE.glob("sample-shard-*"))
    records = [record.numpy() for record in tf.data.TFRecordDataset(paths)]
    with tf.io.TFRecordWriter(str(directory / "sample-00000-of-00001")) as writer:
        for i in range(images):
            writer.write(records[i % len(records)])


HEADER = (
    *("variants", "images", "workers", *STEPS, "rest"),
    *("whole run", "peak memory, GB"),
)


def line(wanted: Run, ended: Ended, report: Mapping[str, Any]) -> list[str]:
    """A run's line of the table."""
    seconds = steps(report["models"])
    rest = "" if wanted.workers else f"{ended.seconds - sum(seconds.values()):.1f}"
    names = wanted.variants[0] if len(wanted.variants) == 1 else str(len(wanted.variants))
    return [
        *(names, str(wanted.images), str(wanted.workers) if wanted.workers else "in process"),
        *(f"{value:.1f}" for value in seconds.values()),
        *(rest, f"{ended.seconds:.1f}", f"{ended.peak / 1e9:.2f}"),
    ]


def by_variant(report: Mapping[str, Any]) -> str:
    """Markdown: the seconds of the steps of each variant."""
    rows = []
    for variant in VARIANTS:
        found = steps(model for model in report["models"] if model["variant"] == variant)
        rows.append(
            [variant, *(f"{value:.1f}" for value in found.values()), f"{sum(found.values()):.1f}"]
        )
    return as_markdown(("variant", *STEPS, "sum"), rows)


def steps(models: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds by column, over all models of a report."""
    total = dict.fromkeys(STEPS, 0.0)
    column = {step: name for name, those in STEPS.items() for step in those}
    for model in models:
        for step, seconds in model["seconds"].items():
            total[column[step]] += seconds
    return total


def published(wanted: Run, ended: Ended, report: Mapping[str, Any]) -> Result:
    """Whether a run did what it is timed for."""
    count = sum(bool(model["path"]) for model in report["models"])
    models = 2 * len(wanted.variants)
    if ended.status or count < models:
        print(ended.said, file=sys.stderr, flush=True)
    what = f"{len(wanted.variants)} variants, {wanted.images} images, {wanted.workers} workers"
    holds = ended.status == 0 and count == models
    return Result(f"models published: {what}", str(count), str(models), holds)


def in_time(ended: Ended) -> Result:
    """The bound of the run of all variants."""
    minutes = ended.seconds / 60
    return Result(
        "the ten variants, both heads, eight images",
        f"{minutes:.1f} minutes",
        f"{ALL_MINUTES:g} minutes",
        minutes <= ALL_MINUTES,
    )


if __name__ == "__main__":
    sys.exit(main())
