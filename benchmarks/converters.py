"""What other tools make of a SavedModel, in an interpreter that has them.

    PYTHON -I benchmarks/converters.py DIRECTORY IMAGES.npy OUTPUTS.npz SIGNATURE...

It need not have what this project requires, so this file imports nothing of the project.
`converters.txt` says what it does need. Each line of the output is JSON: the tool, the signature,
the largest difference of an output, and the seconds; or the error.
"""

import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

OPSET = 17
# A directory, a signature and images -> the outputs by name.
Run = Callable[[pathlib.Path, str, Any], Mapping[str, Any]]


def by_onnx(directory: pathlib.Path, signature: str, images: Any) -> Mapping[str, Any]:
    """tf2onnx, and what it writes in ONNX Runtime."""
    import onnxruntime  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as work:
        path = f"{work}/model.onnx"
        _tf2onnx(directory, signature, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (argument,) = session.get_inputs()
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {argument.name: images}), strict=True))


def _tf2onnx(directory: pathlib.Path, signature: str, path: str) -> None:
    import subprocess

    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(directory)]
    command += ["--signature_def", signature, "--tag", "serve", "--opset", str(OPSET)]
    done = subprocess.run([*command, "--output", path], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def by_openvino(directory: pathlib.Path, signature: str, images: Any) -> Mapping[str, Any]:
    """OpenVINO's `convert_model` of a signature's function, in float32."""
    import openvino  # type: ignore[import-not-found]
    import tensorflow as tf

    loaded = tf.saved_model.load(str(directory))
    function = loaded.signatures[signature]
    model = openvino.convert_model(function)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([images])
    # Outputs lose their names, and keep the order of the function's.
    names = list(tf.nest.flatten({name: name for name in function.structured_outputs}))
    return dict(zip(names, (found[i] for i in range(len(names))), strict=True))


RUNS: dict[str, Run] = {"tf2onnx": by_onnx, "OpenVINO": by_openvino}


def main(argv: list[str]) -> None:
    """Tries all of them."""
    import numpy as np

    directory, images, outputs, *signatures = argv
    values = np.load(images)
    with np.load(outputs) as archive:
        expected = dict(archive)
    for tool, run in RUNS.items():
        for signature in signatures:
            started = time.perf_counter()
            result: dict[str, object] = {"tool": tool, "signature": signature}
            try:
                found = run(pathlib.Path(directory), signature, values)
                names = [n.partition("/")[2] for n in expected if n.startswith(f"{signature}/")]
                result["difference"] = max(
                    float(np.abs(found[n] - expected[f"{signature}/{n}"]).max()) for n in names
                )
            except Exception as error:
                result["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            print(json.dumps(result | {"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
