"""What other tools make of the published signatures: `python -m benchmarks.onwards`.

For every variant, with random (seeded) weights, `logits`, `features` and `class_attention` go
through TFLite's converter with its built-in operations alone (float32, dynamic range, float16) and
through Keras 3's `TFSMLayer`. In the interpreter that `--converters` names, which needs what
`benchmarks/converters.txt` lists, they go through tf2onnx and ONNX Runtime, and OpenVINO. The
differences are to the signature's own answer.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from export import VARIANTS, UserError, get_variant
from export.checkpoints.random_weights import seeded_normal
from signatures.addresses import disk_path
from signatures.quiet import load_tensorflow

from .models import converted, made_apart
from .table import Result, machine, results_table

SIGNATURES = ("logits", "features", "class_attention")
ATOL = 1e-5
# Weights of 16 bits lose this much of logits, and weights of 8 bits that.
FLOAT16_ATOL = 0.02
DYNAMIC_RANGE_ATOL = 0.5
_CONVERTERS = pathlib.Path(__file__).with_name("converters.py")
Outputs = Mapping[str, Any]
# A model's directory, a signature and images -> the outputs by name.
Run = Callable[[pathlib.Path, str, Any], Outputs]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.

    Returns:
        The exit status: 1 if a tool fails or a difference is above its bound.
    """
    parser = argparse.ArgumentParser(
        prog="benchmarks.onwards",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--variants", default="all", help="'all', or names separated by commas")
    parser.add_argument(
        "--converters", type=disk_path, help="a Python with benchmarks/converters.txt"
    )
    parser.add_argument("--work", type=disk_path, default="build/benchmarks")
    options = parser.parse_args(argv)
    if options.converters and not options.converters.is_file():
        parser.error(f"--converters: {options.converters} is no file; expected a Python")
    try:
        names = list(VARIANTS) if options.variants == "all" else options.variants.split(",")
        variants = [get_variant(name) for name in names]
    except UserError as error:
        parser.error(f"--variants: {error}")
    print(f"{machine()}.", flush=True)
    load_tensorflow()
    results: list[Result] = []
    for variant in variants:
        directory = made_apart(converted, options.work, variant.name)
        size = variant.config.image_size
        images = seeded_normal(f"{variant.name}:onwards", (2, size, size, 3))
        results += of_model(variant.name, directory, images, options.converters)
    print(results_table(results))
    return 0 if all(result.holds for result in results) else 1


def of_model(
    name: str, directory: pathlib.Path, images: Any, converters: pathlib.Path | None
) -> list[Result]:
    """What every tool makes of a model.

    Args:
        name: the variant's.
        directory: of its SavedModel.
        images: (B, S, S, 3) float32.
        converters: an interpreter with tf2onnx, ONNX Runtime and OpenVINO, if there is one.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(directory))
    expected = {
        signature: {
            key: value.numpy()
            for key, value in loaded.signatures[signature](images=tf.constant(images)).items()
        }
        for signature in SIGNATURES
    }
    del loaded
    results = []

    def add(tool: str, signature: str, found: float | str, bound: float) -> None:
        results.append(_result(f"{name} {signature}: {tool}", found, bound))
        print(" | ".join(results[-1].row()), flush=True)

    for tool, (run, bound) in _TOOLS.items():
        for signature in SIGNATURES:
            add(tool, signature, _difference(run, directory, signature, images, expected), bound)
    for line in _elsewhere(converters, directory, images, expected) if converters else ():
        found = line["error"] if "error" in line else line["difference"]
        add(line["tool"], line["signature"], found, ATOL)
    return results


def _difference(
    run: Run, directory: pathlib.Path, signature: str, images: Any, expected: Mapping[str, Outputs]
) -> float | str:
    """The largest difference of an output; what the tool says where it fails."""
    try:
        found = run(directory, signature, images)
    # Whatever a tool raises is its answer.
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return max(float(abs(found[key] - value).max()) for key, value in expected[signature].items())


def _result(what: str, found: float | str, bound: float) -> Result:
    if isinstance(found, str):
        return Result(what, found, f"{bound:.0e}", False)
    return Result(what, f"{found:.1e}", f"{bound:.0e}", found <= bound)


def _tflite(*, narrow: bool = False, half: bool = False) -> Run:
    def run(directory: pathlib.Path, signature: str, images: Any) -> Outputs:
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(directory), signature_keys=[signature]
        )
        if narrow:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if half:
            converter.target_spec.supported_types = [tf.float16]
        interpreter = tf.lite.Interpreter(model_content=converter.convert())
        outputs: Outputs = interpreter.get_signature_runner(signature)(images=images)
        return outputs

    return run


def _keras_3(directory: pathlib.Path, signature: str, images: Any) -> Outputs:
    import keras

    layer = keras.layers.TFSMLayer(str(directory), call_endpoint=signature)
    return {name: value.numpy() for name, value in layer(images).items()}


_TOOLS: dict[str, tuple[Run, float]] = {
    "TFLite float32": (_tflite(), ATOL),
    "TFLite float16": (_tflite(narrow=True, half=True), FLOAT16_ATOL),
    "TFLite dynamic range": (_tflite(narrow=True), DYNAMIC_RANGE_ATOL),
    "Keras 3 TFSMLayer": (_keras_3, ATOL),
}


def _elsewhere(
    converters: pathlib.Path, directory: pathlib.Path, images: Any, expected: Mapping[str, Outputs]
) -> Iterator[dict[str, Any]]:
    """What the tools of another interpreter say, a line each."""
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        np.save(work / "images.npy", images)
        values = {f"{s}/{key}": v for s, outputs in expected.items() for key, v in outputs.items()}
        np.savez(work / "outputs.npz", **values)
        command = [converters, "-I", _CONVERTERS, directory, work / "images.npy"]
        command += [work / "outputs.npz", *SIGNATURES]
        with subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout
            yield from map(json.loads, process.stdout)


if __name__ == "__main__":
    sys.exit(main())
