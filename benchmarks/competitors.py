"""timm, ONNX Runtime and OpenVINO, each in a process of an interpreter that has them.

    PYTHON -I benchmarks/competitors.py KIND VARIANT THREADS DIRECTORY

The kinds are the keys of `PREPARE`.

That interpreter need not have what this project requires (PyTorch and TensorFlow in one process
abort it), so this file imports nothing of the project. `competitors.txt` says what it does need.
"""

import concurrent.futures
import contextlib
import functools
import importlib.abc
import importlib.machinery
import json
import os
import pathlib
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

Calls = dict[str, Callable[[], object]]
Prepare = Callable[[int], Calls]

OPSET = 17


def answer(prepare: Prepare) -> None:
    """Answers requests, a line of JSON each, until there are no more.

    `{"prepare": batch}` makes the calls of a batch size, `{"run": times, "settle": runs}` runs
    them in turn; both answer with the seconds of every run, by call.
    `{"clients": number, "seconds": seconds}` runs each call for so long, by so many threads at a
    time, and answers with the seconds that pass for each run.

    Args:
        prepare: a batch size -> what is to be timed, by name.
    """
    # What libraries print is not to come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    calls: Calls = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            calls.clear()
            calls.update(prepare(request["prepare"]))
        if "clients" in request:
            clients, duration = request["clients"], request["seconds"]
            taken = {name: [_together(call, clients, duration)] for name, call in calls.items()}
            print(json.dumps(taken), file=answers, flush=True)
            continue
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        settle = request.get("settle", 0)
        for number in range(settle + request["run"]):
            for name, call in calls.items():
                started = time.perf_counter()
                call()
                if number >= settle:
                    seconds[name].append(time.perf_counter() - started)
        print(json.dumps(seconds), file=answers, flush=True)


def _together(call: Callable[[], object], clients: int, seconds: float) -> float:
    """Calls from several threads at a time, each again as soon as it has its answer.

    Returns:
        The seconds that passed, divided by the number of calls.
    """
    started = time.perf_counter()

    def client(_: int) -> int:
        calls = 0
        while time.perf_counter() - started < seconds:
            call()
            calls += 1
        return calls

    with concurrent.futures.ThreadPoolExecutor(clients) as executor:
        calls = sum(executor.map(client, range(clients)))
    return (time.perf_counter() - started) / calls


def _timm(variant: str) -> tuple[Any, int]:
    """The model, with any weights, and the side of its images."""
    try:
        import torchvision  # type: ignore[import-not-found] # noqa: F401
    except (ImportError, RuntimeError):
        # There are builds of PyTorch that it does not fit. timm imports it for training alone.
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.meta_path.insert(0, _StandIn())
    import timm  # type: ignore[import-not-found]

    model = timm.create_model(variant, pretrained=False).eval()
    return model, model.default_cfg["input_size"][-1]


class _Module(types.ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Anything(type):
    """A class that has every attribute."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `torchvision` and everything in it."""

    def find_spec(
        self, name: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def prepare_timm(variant: str, threads: int, directory: pathlib.Path) -> Prepare:
    """PyTorch's eager mode."""
    import torch

    torch.set_num_threads(threads)
    model, size = _timm(variant)

    def prepare(batch: int) -> Calls:
        images = torch.randn(batch, 3, size, size)

        def call() -> None:
            with torch.inference_mode():
                model(images)

        return {"timm": call}

    return prepare


def prepare_onnxruntime(variant: str, threads: int, directory: pathlib.Path) -> Prepare:
    """ONNX Runtime on the processor, with its own optimisations.

    Args:
        variant: its name.
        threads: of one call.
        directory: where the model is kept as ONNX.
    """
    import numpy as np
    import onnxruntime  # type: ignore[import-not-found]

    def prepare(batch: int) -> Calls:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            str(_exported(variant, batch, directory)),
            options,
            providers=["CPUExecutionProvider"],
        )
        (images,) = session.get_inputs()
        feeds = {images.name: _images(np, images.shape)}
        return {"onnxruntime": lambda: session.run(None, feeds)}

    return prepare


def prepare_openvino(
    variant: str,
    threads: int,
    directory: pathlib.Path,
    hint: str = "LATENCY",
    precision: str | None = "f32",
) -> Prepare:
    """OpenVINO on the processor.

    Args:
        variant: its name.
        threads: of all calls together.
        directory: where the model is kept as ONNX.
        hint: what it is to be fast in: LATENCY or THROUGHPUT.
        precision: f32 as all others compute; None for its default, bfloat16 where the processor has
            instructions for that.
    """
    import numpy as np
    import openvino  # type: ignore[import-not-found]

    def prepare(batch: int) -> Calls:
        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": hint}
        if precision is not None:
            settings["INFERENCE_PRECISION_HINT"] = precision
        onnx = core.read_model(str(_exported(variant, batch, directory)))
        model = core.compile_model(onnx, "CPU", settings)
        images = _images(np, list(model.inputs[0].shape))
        # A request is one thread's.
        own = threading.local()

        def call() -> None:
            if not hasattr(own, "request"):
                own.request = model.create_infer_request()
            own.request.infer({0: images})

        return {"openvino": call}

    return prepare


def _images(np: Any, shape: list[int]) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _exported(variant: str, batch: int, directory: pathlib.Path) -> pathlib.Path:
    """The model as ONNX, for batches of this size alone; exported if it is not there."""
    path = directory / f"{variant}-{batch}.onnx"
    if not path.exists():
        # In a process of its own: this one is to have no threads and no memory of PyTorch.
        import subprocess

        command = [sys.executable, "-I", __file__, "export", variant, str(batch), str(path)]
        subprocess.run(command, check=True)
    return path


def _export(variant: str, batch: int, path: pathlib.Path) -> None:
    import torch

    model, size = _timm(variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".staged")
    torch.onnx.export(
        model,
        (torch.randn(batch, 3, size, size),),
        str(staged),
        input_names=["images"],
        output_names=["logits"],
        dynamo=False,
        opset_version=OPSET,
    )
    staged.replace(path)


_for_throughput = functools.partial(prepare_openvino, hint="THROUGHPUT")
PREPARE: dict[str, Callable[[str, int, pathlib.Path], Prepare]] = {
    "timm": prepare_timm,
    "onnxruntime": prepare_onnxruntime,
    "openvino": prepare_openvino,
    "openvino-default": functools.partial(prepare_openvino, precision=None),
    "openvino-throughput": _for_throughput,
    "openvino-throughput-default": functools.partial(_for_throughput, precision=None),
}


def main(argv: list[str]) -> None:
    """Runs one of them."""
    kind, variant, number, directory = argv
    if kind == "export":
        _export(variant, int(number), pathlib.Path(directory))
        return
    with contextlib.suppress(KeyboardInterrupt):
        answer(PREPARE[kind](variant, int(number), pathlib.Path(directory)))


if __name__ == "__main__":
    main(sys.argv[1:])
