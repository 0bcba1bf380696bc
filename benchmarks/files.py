"""What it costs to convert a checkpoint, and to load what is written; a process for each."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence

from export import get_variant

from .models import converted, made_apart, random_checkpoint
from .table import Result

# Seconds that writing a classifier may take.
WRITE_SECONDS = {"cait_xxs24_224": 15.0, "cait_m48_448": 40.0}
# Bytes of the graph, and seconds of each way to load it.
GRAPH_BYTES = {"cait_xxs24_224": 2.5e6}
LOAD_SECONDS = {"hub": 4.0, "keras": 8.0, "session": 2.5}
LOADED = "cait_xxs24_224"
# A conversion's memory, in sizes of its checkpoint; and what a second head may cost.
MEMORY = 2.5
HEADS = 1.5
_WAYS = {
    "hub": "`hub.KerasLayer`",
    "keras": "`load_model`",
    "session": "a session from the meta graph",
}


def measure_files(variants: Sequence[str], work: pathlib.Path, repeats: int) -> list[Result]:
    """Measures conversions of these variants, and loads of the smallest if it is among them.

    Args:
        variants: their names.
        work: where models and checkpoints are kept between runs.
        repeats: of each load and conversion; medians are taken.
    """
    results = []
    for variant in variants:
        results += _conversion(variant, work, repeats)
    sizes = {
        variant: (made_apart(converted, work, variant) / "saved_model.pb").stat().st_size
        for variant in variants
    }
    results += [graph_size(variant, size) for variant, size in sizes.items()]
    results += growth(sizes)
    if LOADED in variants:
        directory = str(converted(work, LOADED))
        for way, most in LOAD_SECONDS.items():
            seconds = statistics.median(_probe(way, directory)["seconds"] for _ in range(repeats))
            results.append(
                Result(
                    f"loading {LOADED} as {_WAYS[way]}",
                    f"{seconds:.1f} s",
                    f"{most:g} s",
                    seconds <= most,
                )
            )
    return results


def _conversion(variant: str, work: pathlib.Path, repeats: int) -> list[Result]:
    checkpoint = pathlib.Path(random_checkpoint(work, variant).path)
    one: list[dict[str, float]] = []
    both: list[dict[str, float]] = []
    # In turn: what disturbs one kind disturbs the other.
    for _ in range(repeats):
        for runs, heads in ((one, "classifier"), (both, "classifier,features")):
            runs.append(_probe("convert", str(checkpoint.parent), variant, heads))
    write = statistics.median(run["write"] for run in one)
    bound = WRITE_SECONDS.get(variant)
    seconds = [statistics.median(run["seconds"] for run in runs) for runs in (one, both)]
    size = checkpoint.stat().st_size
    memory = max(run["memory"] for run in one + both)
    return [
        Result(
            f"writing {variant}",
            f"{write:.1f} s ({seconds[0]:.1f} s with building it)",
            f"{bound:g} s" if bound else "none",
            bound is None or write <= bound,
        ),
        Result(
            f"converting both heads of {variant} against one",
            f"{seconds[1] / seconds[0]:.2f} ({seconds[1]:.1f} s against {seconds[0]:.1f} s)",
            f"{HEADS:.2f}",
            seconds[1] <= HEADS * seconds[0],
        ),
        Result(
            f"memory at the peak of converting {variant}, in sizes of its checkpoint",
            f"{memory / size:.2f} ({memory / 1e6:.0f} MB for {size / 1e6:.0f} MB)",
            f"{MEMORY:.2f}",
            memory <= MEMORY * size,
        ),
    ]


def graph_size(variant: str, size: int) -> Result:
    """The line of a `saved_model.pb`.

    Args:
        variant: whose.
        size: in bytes.
    """
    bound = GRAPH_BYTES.get(variant)
    blocks = get_variant(variant).config.sa_blocks
    return Result(
        f"`saved_model.pb` of {variant}",
        f"{size / 1e6:.2f} MB ({size / blocks / 1e3:.0f} kB for each of {blocks} blocks)",
        f"{bound / 1e6:g} MB" if bound else "none",
        bound is None or size <= bound,
    )


def growth(sizes: Mapping[str, int]) -> list[Result]:
    """How the largest `saved_model.pb` of all is larger than the smallest, against its blocks.

    Args:
        sizes: variant -> bytes.
    """
    blocks = {variant: get_variant(variant).config.sa_blocks for variant in sizes}
    few, many = min(sizes, key=blocks.__getitem__), max(sizes, key=blocks.__getitem__)
    if blocks[few] == blocks[many]:
        return []
    factor, most = sizes[many] / sizes[few], blocks[many] / blocks[few]
    return [
        Result(
            f"`saved_model.pb` of {many} against that of {few}",
            f"{factor:.2f}",
            f"{most:.2f}, as the blocks",
            factor <= most,
        )
    ]


def _probe(*arguments: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.files_probe", *arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: ended with {done.returncode}: {done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
