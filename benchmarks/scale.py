"""How run time and store traffic of the jobs grow, simulated from measured step times.

    python -m benchmarks.scale [--images 50000] [--sample 1000] [--picture docs/scale.svg]

Prints a table of both jobs over all ten variants, and draws it. The parts are those into which the
jobs really divide their work; a worker has two cores. Nothing is run.
"""

import argparse
import dataclasses
import heapq
import math
import pathlib
import sys
from collections.abc import Iterable, Sequence

from export.variants import VARIANTS, Variant
from pipelines.data.image_folder import ImageFile
from pipelines.data.labelled import FILES_PER_SHARD, DataShard
from pipelines.elements import Shard
from pipelines.evaluate.parts import tasks_of
from pipelines.evaluate.scores import ServedModel
from pipelines.publish.parts import parts_for
from signatures.addresses import disk_path

from .table import as_markdown

WORKERS = (1, 2, 4, 8, 16, 32, 50, 100, 200)

# Milliseconds of an image in a request of eight (of one, of the M variants), on two cores of an AMD
# EPYC with AVX-512. The table of inference in docs/benchmarks.md has those of one image.
SERVED = {
    "cait_xxs24_224": 34.5,
    "cait_xxs24_384": 162.0,
    "cait_xxs36_224": 51.1,
    "cait_xxs36_384": 240.0,
    "cait_xs24_384": 274.0,
    "cait_s24_224": 107.0,
    "cait_s24_384": 420.0,
    "cait_s36_384": 693.0,
    "cait_m36_384": 2151.0,
    "cait_m48_448": 4078.0,
}
# Seconds of both models with a sample of eight images, from that page's table of the published
# models, by the same machine.
PUBLISHED = {
    "cait_xxs24_224": 47.5,
    "cait_xxs24_384": 44.3,
    "cait_xxs36_224": 56.5,
    "cait_xxs36_384": 81.0,
    "cait_xs24_384": 52.8,
    "cait_s24_224": 57.3,
    "cait_s24_384": 92.5,
    "cait_s36_384": 89.9,
    "cait_m36_384": 300.3,
    "cait_m48_448": 510.0,
}
_EXAMINED = 8
# Of that, what is conversion: the table of publish runs there has 262 of 1104 seconds.
_CONVERTING = 262 / 1104
# An image costs the gate both models and the reference, which uses one core.
_GATE = 2 + 3.2
_LOADING = 12.0  # Seconds to load a model and run it once, beside its size.
_BYTES_A_SECOND = 100e6  # From and to an object store, for each worker.
_BYTES_A_PARAMETER = 4


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a job after which its workers wait for one another.

    Attributes:
        name: what is done.
        seconds: of its parts.
        read: bytes that each part reads from the store.
        written: bytes that each part writes there.
    """

    name: str
    seconds: tuple[float, ...]
    read: tuple[float, ...]
    written: tuple[float, ...]


def finish(seconds: Iterable[float], workers: int) -> tuple[float, float]:
    """When workers that take the parts in turn are done, and how long the last one is alone.

    Args:
        seconds: of the parts, in the order in which they are taken.
        workers: how many there are.
    """
    free = [0.0] * workers
    for part in seconds:
        heapq.heapreplace(free, free[0] + part)
    *_, before, last = [0.0, *sorted(free)]
    return last, last - before if workers > 1 else 0.0


def publish_stages(sample: int) -> list[Stage]:
    """The stages of a publish job over all variants.

    Args:
        sample: images of the sample, in one file.
    """
    shard = Shard("/sample", sample, (0, 1))
    convert, validate, release = [], [], []
    for variant in _longest_first():
        size = 2.0 * _bytes(variant)
        convert.append((PUBLISHED[variant.name] * _CONVERTING + size / _BYTES_A_SECOND, 0.0, size))
        # What the examined images did not take is loading, attention and the measurement.
        image = _GATE * SERVED[variant.name] / 1000
        fixed = PUBLISHED[variant.name] * (1 - _CONVERTING) - _EXAMINED * image
        for part in parts_for(variant, [shard]):
            once = fixed if part.measure else 2 * _LOADING
            loading = 1.5 * size / _BYTES_A_SECOND
            validate.append((max(once, _LOADING) + loading + part.images * image, 1.5 * size, 1e4))
        # The filesystem copies by itself.
        release.append((2.0, 0.0, 1e5))
    return [
        Stage(name, *zip(*parts, strict=True))
        for name, parts in (("Convert", convert), ("Validate", validate), ("Publish", release))
    ]


def evaluation_stages(images: int) -> list[Stage]:
    """The stage of an evaluation of all variants.

    Args:
        images: labelled images, in shards of `FILES_PER_SHARD`.
    """
    file = ImageFile("", 0)
    shards = [
        DataShard(str(i), str(i), "/data", (file,) * min(FILES_PER_SHARD, images - first))
        for i, first in enumerate(range(0, images, FILES_PER_SHARD))
    ]
    models = [
        ServedModel(v.name, 1, v.name, "/serving", "", (), v.parameters * v.config.patches / 1e9)
        for v in _longest_first()
    ]
    parts: dict[tuple[str, int], int] = {}
    for task in tasks_of([(model, shards) for model in models]):
        key = (task.model.name, task.part)
        parts[key] = parts.get(key, 0) + len(task.shard.files)
    entries = []
    for (name, _), count in parts.items():
        size = _bytes(VARIANTS[name])
        seconds = _LOADING + size / _BYTES_A_SECOND + count * SERVED[name] / 1000
        entries.append((seconds, size + count * 110e3, 1e3 * math.ceil(count / FILES_PER_SHARD)))
    return [Stage("Evaluate", *zip(*entries, strict=True))]


def simulate(stages: Sequence[Stage], workers: int) -> tuple[float, float]:
    """Seconds of a job, and the largest share of it for which one worker is alone at work."""
    ends = [finish(stage.seconds, workers) for stage in stages]
    run = sum(end for end, _ in ends)
    return run, max(alone for _, alone in ends) / run


def _longest_first() -> list[Variant]:
    return sorted(VARIANTS.values(), key=lambda variant: variant.flops_g, reverse=True)


def _bytes(variant: Variant) -> float:
    return float(_BYTES_A_PARAMETER * variant.parameters)


def rows(stages: Sequence[Stage]) -> list[tuple[str, ...]]:
    """The rows of the table: workers, hours, worker hours, share alone, speed-up."""
    alone_run, _ = simulate(stages, 1)
    found: list[tuple[str, ...]] = []
    for workers in WORKERS:
        run, alone = simulate(stages, workers)
        found.append(
            (
                str(workers),
                f"{run / 3600:.2f}",
                f"{workers * run / 3600:.1f}",
                f"{alone:.0%}",
                f"{alone_run / run:.1f}",
            )
        )
    return found


def traffic(stages: Sequence[Stage]) -> str:
    """What a job reads from the store and writes there, in words."""
    read, written = (sum(sum(getattr(stage, n)) for stage in stages) for n in ("read", "written"))
    return f"{read / 1e9:.0f} GB read, {written / 1e9:.1f} GB written"


def draw(path: pathlib.Path, jobs: Sequence[tuple[str, Sequence[Stage]]]) -> None:
    """Draws the hours of the jobs over the workers, with the straight line of an even division."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "scale"
    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    for title, stages in jobs:
        hours = [simulate(stages, workers)[0] / 3600 for workers in WORKERS]
        (line,) = axes.plot(WORKERS, hours, marker="o", markersize=3, label=title)
        axes.plot(WORKERS, [hours[0] / w for w in WORKERS], ":", color=line.get_color())
    axes.set(xscale="log", yscale="log", xlabel="workers of two cores", ylabel="hours")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--images", type=int, default=50_000, help="of the evaluation")
    parser.add_argument("--sample", type=int, default=1_000, help="images of the gate's sample")
    parser.add_argument("--picture", type=disk_path, help="file that the curves are drawn into")
    flags = parser.parse_args(argv)
    jobs = [
        (f"publish, a sample of {flags.sample:,} images", publish_stages(flags.sample)),
        (f"evaluation of {flags.images:,} images", evaluation_stages(flags.images)),
    ]
    for title, stages in jobs:
        print(f"All ten variants, {title}: {traffic(stages)}.\n")
        header = ("workers", "hours", "worker hours", "one worker alone", "speed-up")
        print(as_markdown(header, rows(stages)))
        print()
    if flags.picture:
        draw(flags.picture, jobs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
