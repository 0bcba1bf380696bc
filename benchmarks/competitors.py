"""timm, ONNX Runtime and OpenVINO, each in a process of an interpreter that has them.

    PYTHON -I benchmarks/competitors.py timm|onnxruntime|openvino VARIANT THREADS DIRECTORY

That interpreter need not have what this project requires (PyTorch and TensorFlow in one process
abort it), so this file imports nothing of the project. `competitors.txt` says what it does need.
"""

import contextlib
import importlib.abc
import importlib.machinery
import json
import os
import pathlib
import sys
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
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        settle = request.get("settle", 0)
        for number in range(settle + request["run"]):
            for name, call in calls.items():
                started = time.perf_counter()
                call()
                if number >= settle:
                    seconds[name].append(time.perf_counter() - started)
        print(json.dumps(seconds), file=answers, flush=True)


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
    """ONNX Runtime on the processor, with its own optimisations."""
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


def prepare_openvino(variant: str, threads: int, directory: pathlib.Path) -> Prepare:
    """OpenVINO on the processor, in float32 as all others."""
    import numpy as np
    import openvino  # type: ignore[import-not-found]

    def prepare(batch: int) -> Calls:
        core = openvino.Core()
        model = core.compile_model(
            core.read_model(str(_exported(variant, batch, directory))),
            "CPU",
            {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"},
        )
        request = model.create_infer_request()
        images = _images(np, list(model.inputs[0].shape))
        return {"openvino": lambda: request.infer({0: images})}

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


PREPARE = {
    "timm": prepare_timm,
    "onnxruntime": prepare_onnxruntime,
    "openvino": prepare_openvino,
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
