"""What made the graph fast and small stays so: operations and bytes that a block adds."""

import collections
import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from export.convert import convert
from export.random_weights import random_tensor
from export.variants import CaiTConfig
from export.weights import expected_shapes
from signatures import Head

# Of a self-attention block, in the graph as a session optimises it. In each of its two streams the
# transpositions are of q, k and v together and of what the heads give back: none is of an attention
# tensor. Biases are fused into their products. Names begin with `_Mkl` where oneDNN does the
# operation.
MOST = {"Transpose": 4, "Reshape": 16, "Cast": 0, "BiasAdd": 0, "Einsum": 0, "MatMul": 0}
FUSED_PRODUCTS = 8
BYTES = 95_000
MORE_BLOCKS = 4


@pytest.fixture(scope="module")
def deeper(
    tiny_config: CaiTConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[CaiTConfig, pathlib.Path]:
    """The tiny classifier with more blocks."""
    config = dataclasses.replace(tiny_config, sa_blocks=tiny_config.sa_blocks + MORE_BLOCKS)
    tensors = {key: random_tensor("deep", key, s) for key, s in expected_shapes(config).items()}
    directory = tmp_path_factory.mktemp("deeper") / "model"
    list(convert("deep", config, tensors, {"classifier": directory}))
    return config, directory


def operations(directory: pathlib.Path) -> "collections.Counter[str]":
    """Kind of operation -> how many of them a session runs for `logits`, functions inlined."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))
        signature = loaded.signature_def["logits"]
        metadata: Any = config_pb2.RunMetadata()
        session.run(
            signature.outputs["logits"].name,
            {signature.inputs["images"].name: np.zeros((1, 32, 32, 3), np.float32)},
            options=config_pb2.RunOptions(output_partition_graphs=True),
            run_metadata=metadata,
        )
    return collections.Counter(
        node.op.removeprefix("_").removeprefix("Mkl").removeprefix("Native")
        for graph in metadata.partition_graphs
        for node in graph.node
    )


def graph_bytes(directory: pathlib.Path) -> int:
    return (directory / "saved_model.pb").stat().st_size


def test_operations_that_a_block_adds(
    tiny_models: dict[Head, pathlib.Path], deeper: tuple[CaiTConfig, pathlib.Path]
) -> None:
    few, many = operations(tiny_models["classifier"]), operations(deeper[1])
    added = {kind: (many[kind] - few[kind]) / MORE_BLOCKS for kind in [*MOST, "FusedMatMul"]}
    assert added.pop("FusedMatMul") == FUSED_PRODUCTS
    over = {kind: count for kind, count in added.items() if count > MOST[kind]}
    assert not over, f"a block has {over}; at most {MOST}"


def test_bytes_that_a_block_adds(
    tiny_models: dict[Head, pathlib.Path], deeper: tuple[CaiTConfig, pathlib.Path]
) -> None:
    added = graph_bytes(deeper[1]) - graph_bytes(tiny_models["classifier"])
    assert added / MORE_BLOCKS <= BYTES
