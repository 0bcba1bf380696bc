"""What TensorFlow runs, a process each: a SavedModel's signatures, and bare products of matrices.

    python -m benchmarks.tensorflow_competitors session DIRECTORY INTRA INTER CALL...
    python -m benchmarks.tensorflow_competitors gemm THREADS

A call is the name of a signature, with `:name` of that output alone, with `@number` for that block.
Answers as `benchmarks.competitors` does.
"""

import contextlib
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import threadpoolctl
from tensorflow.core.protobuf import config_pb2

from .competitors import Calls, Prepare, answer
from .speed import GEMM_SIZE


def prepare_session(
    directory: pathlib.Path, intra: int, inter: int, wanted: Sequence[str]
) -> Prepare:
    """Signatures as a server runs them: a session with exact fetches.

    Args:
        directory: the SavedModel.
        intra: threads of one operation.
        inter: operations at a time.
        wanted: calls, as above.
    """
    session = _session(intra, inter)
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))

    def prepare(batch: int) -> Calls:
        calls: Calls = {}
        for name in wanted:
            called, _, block = name.partition("@")
            signature_name, _, output = called.partition(":")
            signature = loaded.signature_def[signature_name]
            outputs = [output] if output else sorted(signature.outputs)
            run = session.make_callable(
                [signature.outputs[key].name for key in outputs],
                [signature.inputs[key].name for key in sorted(signature.inputs)],
            )
            infos = [signature.inputs[key] for key in sorted(signature.inputs)]
            feeds = [_feed(info, batch, block) for info in infos]
            calls[name] = lambda run=run, feeds=feeds: run(*feeds)  # type: ignore[misc]
        return calls

    return prepare


def prepare_gemm(threads: int) -> Prepare:
    """A product of two square matrices of `GEMM_SIZE`, by TensorFlow and by NumPy."""
    threadpoolctl.threadpool_limits(threads, "blas")
    size = (GEMM_SIZE, GEMM_SIZE)
    a, b = (np.random.default_rng(i).normal(size=size).astype(np.float32) for i in range(2))
    session = _session(threads, threads)
    with session.graph.as_default():
        # Variables, as a product of constants would be computed once.
        left, right = (tf.compat.v1.get_variable(n, initializer=v) for n, v in (("a", a), ("b", b)))
        product = tf.matmul(left, right)
        session.run(tf.compat.v1.global_variables_initializer())
    # The operation, so that the product is not copied out.
    run = session.make_callable(product.op)
    return lambda _: {"tensorflow": run, "numpy": lambda: a @ b}


def _session(intra: int, inter: int) -> Any:
    return tf.compat.v1.Session(
        graph=tf.Graph(),
        config=config_pb2.ConfigProto(
            intra_op_parallelism_threads=intra, inter_op_parallelism_threads=inter
        ),
    )


def _feed(info: Any, batch: int, block: str) -> Any:
    """Noise for images, or the block for every image."""
    if tf.as_dtype(info.dtype) == tf.int32:
        return np.full(batch, int(block), np.int32)
    shape = [batch, *(dim.size for dim in info.tensor_shape.dim[1:])]
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def main(argv: Sequence[str]) -> None:
    """Runs one of them."""
    tf.get_logger().setLevel("ERROR")
    kind, *rest = argv
    with contextlib.suppress(KeyboardInterrupt):
        if kind == "gemm":
            answer(prepare_gemm(int(rest[0])))
        else:
            directory, intra, inter, *wanted = rest
            answer(prepare_session(pathlib.Path(directory), int(intra), int(inter), wanted))


if __name__ == "__main__":
    main(sys.argv[1:])
