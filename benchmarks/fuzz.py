"""What a server does with what no client should send: `python -m benchmarks.fuzz`.

Four parts, on a server in a process of its own with one model that is converted first:

- images: damaged image files, by `bytes_logits`; the header check and the server have to agree;
- predict: Predict requests of wrong tensors, and damaged ones;
- rest: REST calls with bodies that are wrong;
- hostile: floods, bombs and half-open connections beside a client that behaves well, which loses
  no answer, while the memory of the server ends within 10 % of its start.

A server that ends, an answer that blames the server, or none in time is a failure, and is printed.
Hypothesis, which makes up the first three, is in `requirements-dev.lock` alone.
"""

import argparse
import collections
import contextlib
import dataclasses
import http.client
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from serving.model_server.launch import ServerProcess, free_port, server_process
from signatures.addresses import disk_path

from .table import as_markdown, machine, results_table

PARTS = ("images", "predict", "rest", "hostile")
_SECONDS = 60.0
_PREDICT = "/tensorflow.serving.PredictionService/Predict"
# Few, as Hypothesis makes all of them up also where the time is over.
_STEP = 25


@dataclasses.dataclass
class Outcomes:
    """What the inputs of a part were answered.

    Attributes:
        counts: how many inputs had each answer.
        failures: descriptions of inputs that the server is to blame for.
    """

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failures: list[str] = dataclasses.field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.

    Returns:
        The exit status: 1 if there was a failure or a bound does not hold.
    """
    parser = argparse.ArgumentParser(prog="benchmarks.fuzz", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each part")
    parser.add_argument("--seed", type=int, default=0, help="of what is made up")
    parser.add_argument("--model", type=disk_path, help="a version's directory, as it is")
    parser.add_argument("--work", type=disk_path, default="build/benchmarks")
    options = parser.parse_args(argv)
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only: unknown part {sorted(unknown)[0]!r}; known are {', '.join(PARTS)}")
    model = options.model or _converted(options.work)
    rows, results, failures = [], [], []
    with _server(model) as server:
        for part in (part for part in PARTS if part in parts):
            if part == "hostile":
                from .hostile import hostile_load

                results += hostile_load(server, options.minutes * 60)
                continue
            found = _fuzz(part, server, options.minutes * 60, options.seed)
            answers = ", ".join(f"{answer} {n}" for answer, n in found.counts.most_common())
            rows.append((part, str(found.counts.total()), answers, str(len(found.failures))))
            failures += found.failures
    print(machine())
    if rows:
        print(as_markdown(("part", "inputs", "answers", "failures"), rows))
    if results:
        print(results_table(results))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures or not all(result.holds for result in results) else 0


def _converted(work: pathlib.Path) -> pathlib.Path:
    from .models import converted

    return converted(work, "cait_xxs24_224")


@contextlib.contextmanager
def _server(model: pathlib.Path) -> Iterator[ServerProcess]:
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        (root / "base").mkdir()
        (root / "base" / "1").symlink_to(model.resolve())
        (root / "monitoring.config").write_text("prometheus_config { enable: true }")
        with server_process(
            "--model_name=m",
            f"--model_base_path={root / 'base'}",
            "--enable_model_warmup=false",
            f"--monitoring_config_file={root / 'monitoring.config'}",
            rest_port=free_port(),
            seconds=600,
        ) as server:
            yield server


def _fuzz(part: str, server: ServerProcess, seconds: float, seed: int) -> Outcomes:
    """Sends inputs of one kind for some seconds."""
    import hypothesis

    from . import fuzz_inputs

    inputs: dict[str, tuple[Any, Callable[[ServerProcess, Any], str]]] = {
        "images": (fuzz_inputs.images(), _send_image),
        "predict": (fuzz_inputs.predict_messages(), _send_predict),
        "rest": (fuzz_inputs.rest_calls(), _send_rest),
    }
    strategy, send = inputs[part]
    outcomes = Outcomes()
    end = time.monotonic() + seconds

    def one(value: Any) -> None:
        if time.monotonic() > end:
            return
        answer = send(server, value)
        outcomes.counts[answer] += 1
        if server.process.poll() is not None:
            answer = f"FAILED: the server ended with status {server.process.returncode}"
        if answer.startswith("FAILED"):
            outcomes.failures.append(f"{part}: {answer}: {value!r}"[:2000])

    while time.monotonic() < end and server.process.poll() is None:
        configure = hypothesis.settings(
            max_examples=_STEP,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        given: Any = hypothesis.given
        run = given(strategy)(one)
        for decorate in (configure, hypothesis.seed(seed)):
            run = decorate(run)
        run()
        seed += 1
    return outcomes


def _send_image(server: ServerProcess, data: bytes) -> str:
    from signatures.image_header import ImageHeaderError, check_image_header

    from .fuzz_inputs import MODEL

    request = _image_request(MODEL, data)
    answer = _send_predict(server, request.SerializeToString())
    try:
        check_image_header(data)
    except ImageHeaderError:
        # A client would not have sent what the server takes.
        return "FAILED: refused by its header alone" if answer == "OK" else f"{answer} (header)"
    return answer


def _image_request(model: str, data: bytes) -> Any:
    import numpy as np

    from .serving_local import predict_request

    return predict_request(model, "bytes_logits", image_bytes=np.array([data], object))


def _send_predict(server: ServerProcess, message: bytes) -> str:
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        try:
            channel.unary_unary(_PREDICT)(message, timeout=_SECONDS)
        except grpc.RpcError as error:
            failed: Any = error
            code, details = failed.code().name, failed.details()
            blamed = code in ("UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
            # A message that is none is INTERNAL, as in the real server.
            if blamed or (code == "INTERNAL" and not details.startswith("Failed to parse the req")):
                return f"FAILED: {code}: {details[:200]}"
            return str(code)
    return "OK"


def _send_rest(server: ServerProcess, call: tuple[str, str, bytes, dict[str, str]]) -> str:
    method, path, body, headers = call
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=_SECONDS)
    try:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        reply.read()
    except (OSError, http.client.HTTPException) as error:
        return f"FAILED: {type(error).__name__}: {error}"
    finally:
        connection.close()
    # JSON has no values of some dtypes, and PUT no path: 501 and 400.
    return f"FAILED: {reply.status}" if reply.status in (500, 503, 504) else str(reply.status)


if __name__ == "__main__":
    sys.exit(main())
