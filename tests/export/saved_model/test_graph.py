"""What made the graph fast and small stays so: operations and bytes that a block adds."""

import collections
import dataclasses
import pathlib
import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from export.checkpoints.random_weights import random_tensors
from export.convert import convert
from export.variants import CaiTConfig
from signatures import Head

pytestmark = pytest.mark.slow

# Of a self-attention block, as a session runs it. In each of its two streams the transpositions are
# of q, k and v together and of what the heads give back: none is of an attention tensor. Biases are
# fused into their products. Names begin with `_Mkl` where oneDNN does the operation.
MOST = {"Transpose": 4, "Reshape": 18, "Cast": 0, "BiasAdd": 0, "Einsum": 0, "MatMul": 0}
FUSED_PRODUCTS = 8
# Its call, and for each of its weights the variable, its name and its value.
OPTIMISED = 60
BYTES = 95_000
MORE_BLOCKS = 4


@pytest.fixture(scope="module")
def deeper(
    tiny_config: CaiTConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[CaiTConfig, pathlib.Path]:
    """The tiny classifier with more blocks."""
    config = dataclasses.replace(tiny_config, sa_blocks=tiny_config.sa_blocks + MORE_BLOCKS)
    tensors = random_tensors("deep", config)
    directory = tmp_path_factory.mktemp("deeper") / "model"
    list(convert("deep", config, tensors, {"classifier": directory}))
    return config, directory


@dataclasses.dataclass
class Run:
    """What a session does for `logits`.

    Attributes:
        operations: kind of operation -> how many of them run, those of called functions too.
        optimised: operations of the optimised graph, without those of functions that it calls.
    """

    operations: "collections.Counter[str]"
    optimised: int


def run(directory: pathlib.Path) -> Run:
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))
        signature = loaded.signature_def["logits"]
        metadata: Any = config_pb2.RunMetadata()
        session.run(
            signature.outputs["logits"].name,
            {signature.inputs["images"].name: np.zeros((1, 32, 32, 3), np.float32)},
            options=config_pb2.RunOptions(
                output_partition_graphs=True, trace_level=config_pb2.RunOptions.FULL_TRACE
            ),
            run_metadata=metadata,
        )
    # "name = Kind(inputs)"
    labels = (
        re.search(r"= *(\w+)\(", node.timeline_label)
        for device in metadata.step_stats.dev_stats
        for node in device.node_stats
    )
    kinds = collections.Counter(
        label[1].removeprefix("_").removeprefix("Mkl").removeprefix("Native")
        for label in labels
        if label
    )
    return Run(kinds, sum(len(graph.node) for graph in metadata.partition_graphs))


def graph_bytes(directory: pathlib.Path) -> int:
    return (directory / "saved_model.pb").stat().st_size


@pytest.fixture(scope="module")
def few(tiny_models: dict[Head, pathlib.Path]) -> Run:
    return run(tiny_models["classifier"])


@pytest.fixture(scope="module")
def many(deeper: tuple[CaiTConfig, pathlib.Path]) -> Run:
    return run(deeper[1])


def test_operations_that_a_block_adds(few: Run, many: Run) -> None:
    kinds = [*MOST, "FusedMatMul"]
    added = {k: (many.operations[k] - few.operations[k]) / MORE_BLOCKS for k in kinds}
    assert added.pop("FusedMatMul") == FUSED_PRODUCTS
    over = {kind: count for kind, count in added.items() if count > MOST[kind]}
    assert not over, f"a block has {over}; at most {MOST}"


def test_a_block_is_optimised_once_for_all(few: Run, many: Run) -> None:
    assert (many.optimised - few.optimised) / MORE_BLOCKS <= OPTIMISED


def test_bytes_that_a_block_adds(
    tiny_models: dict[Head, pathlib.Path], deeper: tuple[CaiTConfig, pathlib.Path]
) -> None:
    added = graph_bytes(deeper[1]) - graph_bytes(tiny_models["classifier"])
    assert added / MORE_BLOCKS <= BYTES
