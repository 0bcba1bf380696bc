"""What a model costs to run, and to write and load: `python -m benchmarks.inference`.

Four parts, on random (seeded) weights:

- speed: milliseconds a batch, and their ratios to what other ways of running CaiT take;
- load: milliseconds that pass for an image when several clients ask at a time, an image each, with
  the settings for throughput;
- attention: the same of the signatures that answer with attention, in ratios to `logits`;
- files: what converting a checkpoint and loading what is written take (`benchmarks.files`).

Every competitor is a process of its own with the same number of threads, and the rounds go through
all of them. A ratio is the median of the ratios of the rounds. Beside them stands the limit: the
time of the model's multiply-adds at the rate of a product of large matrices in the same rounds.
timm, ONNX Runtime and OpenVINO run in the interpreter that `--competitors` names, which needs what
`benchmarks/competitors.txt` lists.
"""

import argparse
import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

from export import VARIANTS, UserError, get_variant
from export.compute import Compute
from serving_configs.server.environment import SERVER_ENVIRONMENT
from signatures.addresses import disk_path

from .files import measure_files
from .interleaved import Command, Rounds, measure
from .models import converted, made_apart, plain_port
from .speed import (
    BOUNDS,
    LOAD_BOUNDS,
    LOGITS,
    NARROW,
    ONE_THREAD,
    OPENVINO,
    OPENVINO_DEFAULT,
    SELF_ATTENTION,
    THROUGHPUT,
    Bound,
    Key,
    bounds_table,
    ratios,
    times,
    with_limit,
)
from .table import machine, results_table

PARTS = ("speed", "load", "attention", "files")
# Lets a session compile: nothing in the model asks for it. A server needs
# --xla_cpu_compilation_enabled=true beside it. The column says why no deployment file has them.
XLA_FLAGS = "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"
# Eight images of these take minutes in the slower competitors.
LARGEST = ("cait_m36_384", "cait_m48_448")
_TENSORFLOW = (sys.executable, "-m", "benchmarks.tensorflow_competitors")
_COMPETITORS = pathlib.Path(__file__).with_name("competitors.py")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.

    Returns:
        The exit status: 1 if a bound does not hold.
    """
    parser = argparse.ArgumentParser(
        prog="benchmarks.inference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--variants", default="all", help="'all', or names separated by commas")
    parser.add_argument(
        "--batches", default="1,8", help="sizes; of the two largest variants, 1 alone"
    )
    parser.add_argument("--clients", default="1,4,16", help="at a time, for the part load")
    parser.add_argument("--rounds", type=int, default=15, help="of every variant and batch size")
    parser.add_argument("--threads", type=int, default=2, help="of each competitor")
    parser.add_argument("--repeats", type=int, default=3, help="of each load and conversion")
    parser.add_argument(
        "--competitors", type=disk_path, help="a Python with benchmarks/competitors.txt"
    )
    parser.add_argument("--work", type=disk_path, default="build/benchmarks")
    options = parser.parse_args(argv)
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only: unknown part {sorted(unknown)[0]!r}; known are {', '.join(PARTS)}")
    if options.competitors and not options.competitors.is_file():
        parser.error(f"--competitors: {options.competitors} is no file; expected a Python")
    for name in ("rounds", "threads", "repeats"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}; expected a number from 1")
    batches, clients = (_numbers(parser, options, name) for name in ("batches", "clients"))
    try:
        names = list(VARIANTS) if options.variants == "all" else options.variants.split(",")
        variants = [get_variant(name).name for name in names]
    except UserError as error:
        parser.error(f"--variants: {error}")
    holds = True
    print(f"{machine()}, {options.threads} threads, float32 unless said otherwise.", flush=True)
    if "speed" in parts:
        holds &= _speed(variants, batches, options)
    if "load" in parts:
        holds &= _load(variants, clients, options)
    if "attention" in parts:
        holds &= _attention(variants, batches, options)
    if "files" in parts:
        results = measure_files(variants, options.work, options.repeats)
        print(f"\n{results_table(results)}")
        holds &= all(result.holds for result in results)
    return 0 if holds else 1


def _numbers(parser: argparse.ArgumentParser, options: argparse.Namespace, name: str) -> list[int]:
    value = getattr(options, name)
    try:
        numbers = [int(number) for number in value.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        parser.error(f"--{name} {value}; expected numbers from 1, separated by commas")
    return numbers


def _speed(variants: Sequence[str], batches: Sequence[int], options: argparse.Namespace) -> bool:
    found: dict[Key, Rounds] = {}
    for variant in variants:
        sizes = [size for size in batches if size == 1 or variant not in LARGEST]
        commands = competitors(variant, options.work, options.threads, options.competitors)
        for batch, rounds in measure(commands, sizes, options.rounds).items():
            found[variant, batch] = with_limit(rounds, get_variant(variant).flops_g, batch)
            print(times({(variant, batch): found[variant, batch]}), file=sys.stderr, flush=True)
    if not options.competitors:
        print("\ntimm eager, ONNX Runtime and OpenVINO are left out: no --competitors was given.")
    return _report(found, options.rounds)


def _load(variants: Sequence[str], clients: Sequence[int], options: argparse.Namespace) -> bool:
    found: dict[Key, Rounds] = {}
    for variant in variants:
        commands = loaded_competitors(variant, options.work, options.threads, options.competitors)
        for number, rounds in measure(commands, clients, options.rounds, clients=True).items():
            found[variant, number] = rounds
            print(times({(variant, number): rounds}, "clients"), file=sys.stderr, flush=True)
    return _report(found, options.rounds, LOAD_BOUNDS, "clients", "an image")


def _attention(
    variants: Sequence[str], batches: Sequence[int], options: argparse.Namespace
) -> bool:
    found: dict[Key, Rounds] = {}
    for variant in variants:
        sizes = [size for size in batches if size == 1 or variant not in LARGEST]
        last = get_variant(variant).config.sa_blocks - 1
        blocks = (f"self_attention@{block}" for block in (0, last // 2, last))
        columns = {
            "logits": LOGITS,
            "class_attention": "class_attention",
            **dict(zip(blocks, SELF_ATTENTION, strict=True)),
        }
        number = str(options.threads)
        directory = str(made_apart(converted, options.work, variant))
        command = Command((*_TENSORFLOW, "session", directory, number, number, *columns), columns)
        for batch, rounds in measure([command], sizes, options.rounds).items():
            found[variant, batch] = rounds
            print(times({(variant, batch): rounds}), file=sys.stderr, flush=True)
    return _report(found, options.rounds)


def _report(
    found: dict[Key, Rounds],
    rounds: int,
    bounds: Sequence[Bound] = BOUNDS,
    size: str = "batch",
    unit: str = "a batch",
) -> bool:
    results = bounds_table(found, bounds, size)
    print(f"\nMilliseconds {unit}, medians of {rounds} rounds:\n\n{times(found, size)}")
    print("\nRatios; **bold** where the bound does not hold:\n")
    print(ratios(found, bounds, size))
    print(f"\n{results_table(results)}")
    return all(result.holds for result in results)


def competitors(
    variant: str, work: pathlib.Path, threads: int, python: pathlib.Path | None
) -> list[Command]:
    """The competitors of a variant; models that they need are made if they are not there.

    Args:
        variant: its name.
        work: where models are kept between runs.
        threads: of each.
        python: an interpreter for those that are not of TensorFlow.
    """
    number = str(threads)
    commands = [
        Command(
            (*_TENSORFLOW, "gemm", number),
            {"tensorflow": "gemm by TensorFlow", "numpy": "gemm by NumPy"},
        ),
        _session(converted, work, variant, (number, number), LOGITS),
        _as_deployed(converted, work, variant, number, f"{LOGITS}, {ONE_THREAD}"),
        dataclasses.replace(
            _session(converted, work, variant, (number, number), f"{LOGITS}, XLA"),
            environment={"TF_XLA_FLAGS": XLA_FLAGS},
        ),
        _session(_made(Compute("bfloat16")), work, variant, (number, number), NARROW),
        _as_deployed(_made(Compute("bfloat16")), work, variant, number, f"{NARROW}, {ONE_THREAD}"),
        _session(
            plain_port, work, variant, (number, number), "plain port", "serving_default:logits"
        ),
    ]
    others = {
        "timm": "timm eager",
        "onnxruntime": "ONNX Runtime",
        "openvino": OPENVINO,
        "openvino-default": OPENVINO_DEFAULT,
    }
    return commands + _others(python, work, variant, number, others)


def loaded_competitors(
    variant: str, work: pathlib.Path, threads: int, python: pathlib.Path | None
) -> list[Command]:
    """The competitors under load, as `competitors`, each in its settings for throughput."""
    number = str(threads)
    commands = [
        _as_deployed(_made(compute), work, variant, number, column)
        for compute, column in _LOADED.items()
    ]
    # ONNX Runtime's: a thread for each call.
    others = {"openvino-throughput": OPENVINO, "openvino-throughput-default": OPENVINO_DEFAULT}
    return (
        commands
        + _others(python, work, variant, "1", {"onnxruntime": "ONNX Runtime"})
        + _others(python, work, variant, number, others)
    )


_Make = Callable[[pathlib.Path, str], pathlib.Path]

_LOADED = {
    Compute(): f"{LOGITS}, {ONE_THREAD}",
    Compute(profile="throughput"): f"{LOGITS}, {THROUGHPUT}",
    Compute("bfloat16"): f"{NARROW}, {ONE_THREAD}",
    Compute("bfloat16", "throughput"): f"{NARROW}, {THROUGHPUT}",
}


def _made(compute: Compute) -> _Make:
    return functools.partial(converted, compute=compute)


def _session(
    make: _Make,
    work: pathlib.Path,
    variant: str,
    threads: tuple[str, str],
    column: str,
    call: str = "logits",
) -> Command:
    directory = str(made_apart(make, work, variant))
    return Command((*_TENSORFLOW, "session", directory, *threads, call), {call: column})


def _as_deployed(
    make: _Make, work: pathlib.Path, variant: str, threads: str, column: str
) -> Command:
    """As in a server of the deployment files: its flag for threads, and its environment."""
    command = _session(make, work, variant, ("1", threads), column)
    return dataclasses.replace(command, environment=SERVER_ENVIRONMENT)


def _others(
    python: pathlib.Path | None,
    work: pathlib.Path,
    variant: str,
    threads: str,
    columns: Mapping[str, str],
) -> list[Command]:
    """Those that are not of TensorFlow, by their kinds; none without their interpreter."""
    if python is None:
        return []
    return [
        Command(
            # Isolated: neither this folder's modules nor this interpreter's settings.
            (
                *(str(python), "-I", str(_COMPETITORS)),
                *(kind, variant, threads, str(work.resolve() / "onnx")),
            ),
            {kind.split("-")[0]: column},
        )
        for kind, column in columns.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
