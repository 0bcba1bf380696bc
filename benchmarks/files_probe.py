"""One conversion or one load, in a process of its own.

    python -m benchmarks.files_probe convert CHECKPOINTS VARIANT HEADS
    python -m benchmarks.files_probe hub|keras|session DIRECTORY

Prints a line of JSON: seconds without those of importing libraries and, of a conversion, bytes of
memory at the peak above the interpreter with TensorFlow imported, before anything of this project
was.
"""

import importlib
import json
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Sequence


def main(argv: Sequence[str]) -> None:
    """Runs one of them."""
    what, directory, *rest = argv
    importlib.import_module("tensorflow").constant(0)
    bare = _memory("VmRSS")
    if what == "convert":
        found = _convert(pathlib.Path(directory), *rest)
        found["memory"] = _memory("VmHWM") - bare
    else:
        found = {"seconds": _LOADS[what](directory)}
    print(json.dumps(found))


def _convert(checkpoints: pathlib.Path, variant: str, heads: str) -> dict[str, float]:
    from export import checkpoint_source, get_variant, open_checkpoint
    from export.convert import convert
    from signatures.labels import imagenet_labels

    row = get_variant(variant)
    with tempfile.TemporaryDirectory(dir=checkpoints) as work:
        checkpoint = open_checkpoint(checkpoint_source(str(checkpoints)), row, checkpoints)
        directories = {head: pathlib.Path(work) / head for head in heads.split(",")}
        started = time.perf_counter()
        done = list(
            convert(variant, row.config, checkpoint.tensors(), directories, imagenet_labels())  # type: ignore[arg-type]
        )
        return {"seconds": time.perf_counter() - started, "write": done[0].seconds["write"]}


def _hub(directory: str) -> float:
    import tensorflow_hub as hub

    started = time.perf_counter()
    hub.KerasLayer(directory, trainable=True)
    return time.perf_counter() - started


def _keras(directory: str) -> float:
    import tf_keras

    started = time.perf_counter()
    tf_keras.models.load_model(directory)
    return time.perf_counter() - started


def _session(directory: str) -> float:
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    started = time.perf_counter()
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        tf.compat.v1.saved_model.load(session, ["serve"], directory)
        return time.perf_counter() - started


_LOADS = {"hub": _hub, "keras": _keras, "session": _session}


def _memory(field: str) -> float:
    """Bytes of this process, `VmRSS` now or `VmHWM` at the peak."""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    (kibibytes,) = re.findall(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return 1024.0 * int(kibibytes)


if __name__ == "__main__":
    main(sys.argv[1:])
