"""What serving costs: `python -m benchmarks.serving`.

Four measurements on models that are converted first, unless `--work` holds them already:

- overhead: a served `logits` call against the same run of the session, in one process, in turn;
- batching: sixteen clients with single images, the server with batching off and on, in turn;
- attention: a `self_attention` call for one block against a `class_attention` call, in turn;
- load: calls of all kinds while versions come and go, and the memory of the server.

Ratios count: both sides of each are measured in one run, in turn, and medians are taken.
"""

import argparse
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from serving.model_server.launch import find_binary
from signatures.addresses import address, disk_path

from .models import converted
from .serving_load import batching, mixed_load
from .table import Result, machine, results_table

PARTS = ("overhead", "batching", "attention", "load")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.

    Returns:
        The exit status: 1 if a bound does not hold.
    """
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--calls", type=int, default=200, help="of each side of a comparison")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the mixed load")
    parser.add_argument("--work", type=disk_path, default="build/benchmarks")
    parser.add_argument(
        "--server_binary", type=address, help="as the server of the load, instead of this one"
    )
    options = parser.parse_args(argv)
    binary = find_binary(options.server_binary)
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only: unknown part {sorted(unknown)[0]!r}; known are {', '.join(PARTS)}")
    results: list[Result] = []
    if "batching" in parts:
        results += _batching(options.work, binary)
    if "load" in parts:
        results += _load(options.work, options.minutes, binary)
    if "overhead" in parts:
        results += _overhead(options.work, options.calls)
    if "attention" in parts:
        results.append(_attention(options.work, options.calls // 4))
    print(machine())
    print(results_table(results))
    return 0 if all(result.holds for result in results) else 1


def _overhead(work: pathlib.Path, calls: int) -> list[Result]:
    import numpy as np

    from .serving_local import local_server, predict_request

    model = "cait_xxs24_224"
    image = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    with local_server(converted(work, model), model) as (core, stub):
        request = predict_request(model, "logits", images=image)

        def served() -> Any:
            return stub.Predict(request, 60)

        with core.handle(request.model_spec) as handle:
            signature = handle.servable.signatures["logits"]
            feeds = {signature.inputs["images"].name: image}
            fetches = [signature.outputs["logits"].name]
            session, call = in_turn(
                [lambda: handle.servable.run(feeds, fetches), served], calls, warm_up=20
            )
    over = [b - a for a, b in zip(session, call, strict=True)]
    median = statistics.median(over) * 1000
    share = quantile(call, 0.99) / quantile(session, 0.99) - 1
    base = statistics.median(session) * 1000
    return [
        Result(
            "overhead of a served `logits` call, median",
            f"{median:.2f} ms on {base:.1f} ms",
            "5 ms",
            median <= 5,
        ),
        Result(
            "overhead of a served `logits` call, p99",
            f"{100 * share:.1f} %",
            "10 %",
            share <= 0.1,
        ),
    ]


def _attention(work: pathlib.Path, calls: int) -> Result:
    import numpy as np

    from .serving_local import local_server, predict_request

    model = "cait_xxs24_384"
    image = np.random.default_rng(0).normal(size=(1, 384, 384, 3)).astype(np.float32)
    # The last one, which costs the most.
    block = np.array([23], np.int32)
    with local_server(converted(work, model), model) as (_, stub):
        one = predict_request(model, "class_attention", images=image)
        other = predict_request(model, "self_attention", images=image, block=block)
        class_attention, self_attention = in_turn(
            [lambda: stub.Predict(one, 60), lambda: stub.Predict(other, 60)], calls, warm_up=3
        )
    ratio = statistics.median(self_attention) / statistics.median(class_attention)
    return Result(
        "`self_attention` of the last block against `class_attention`, cait_xxs24_384",
        f"{ratio:.2f}",
        "1.20",
        ratio <= 1.2,
    )


def _batching(work: pathlib.Path, binary: str | None) -> list[Result]:
    from .serving_local import best_rate

    model = "cait_xxs24_224"
    off, on, lost = batching(converted(work, model), binary)
    ratio = on / off
    most, way = best_rate(converted(work, model), model, 224)
    return [
        Result(
            "images a second of 16 clients, batching on against off",
            f"{ratio:.2f} ({on:.1f} against {off:.1f})",
            "1.30",
            ratio >= 1.3,
        ),
        Result("requests lost, batching off and on", str(lost), "0", lost == 0),
        # Not a bound: what the one above is to be read beside.
        Result(
            "the bare session's best against batching off, for comparison",
            f"{most / off:.2f} ({most:.1f} with {way})",
            "none",
            True,
        ),
    ]


def _load(work: pathlib.Path, minutes: float, binary: str | None) -> list[Result]:
    found = mixed_load(converted(work, "cait_xxs24_224"), minutes * 60, binary)
    print(f"MiB by version: {[round(value) for value in found.memory]}", file=sys.stderr)
    first, last = ends(found.memory[2:] or found.memory)
    growth = last - first
    return [
        Result(
            f"failed of {found.calls} calls in {minutes:g} minutes of mixed load, "
            f"{len(found.memory) - 1} versions",
            str(found.failed),
            "0",
            found.failed == 0,
        ),
        Result(
            "growth of the server's memory since the second swap",
            f"{growth:.0f} MiB of {first:.0f} MiB",
            "5 %",
            growth <= 0.05 * first,
        ),
    ]


def in_turn(
    calls: Sequence[Callable[[], Any]], rounds: int, warm_up: int
) -> tuple[list[float], ...]:
    """Seconds of each call, each round running all of them."""
    seconds: tuple[list[float], ...] = tuple([] for _ in calls)
    for number in range(warm_up + rounds):
        for call, taken in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            if number >= warm_up:
                taken.append(time.perf_counter() - start)
    return seconds


def ends(values: Sequence[float], count: int = 5) -> tuple[float, float]:
    """Medians of the first and of the last few: what is in flight at a moment varies."""
    return statistics.median(values[:count]), statistics.median(values[-count:])


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all are at most."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    sys.exit(main())
