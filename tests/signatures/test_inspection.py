"""Deviations from the contract, planted one at a time into a map of signatures that keeps it."""

from collections.abc import Callable

import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from signatures import BOTH, Geometry, Head, signatures_for
from signatures.inspection import contract_problems

GEOMETRY = Geometry(
    image_size=32, patches=4, heads=2, embed_dim=16, num_classes=10, sa_blocks=2, ca_blocks=2
)
TYPES = {
    "float32": types_pb2.DT_FLOAT,
    "int32": types_pb2.DT_INT32,
    "string": types_pb2.DT_STRING,
}
Definitions = dict[str, meta_graph_pb2.SignatureDef]


def info(dtype: int, *shape: int) -> meta_graph_pb2.TensorInfo:
    made = meta_graph_pb2.TensorInfo(dtype=dtype)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def definitions_for(head: Head) -> Definitions:
    """What a SavedModel that keeps the contract has, with the writer's own entry beside it."""
    definitions = {"__saved_model_init_op": meta_graph_pb2.SignatureDef()}
    for name, signature in signatures_for(head, GEOMETRY).items():
        definition = definitions[name] = meta_graph_pb2.SignatureDef(method_name=signature.method)
        for tensors, infos in (
            (signature.inputs, definition.inputs),
            (signature.outputs, definition.outputs),
        ):
            for tensor in tensors:
                shape = (-1 if n is None else n for n in tensor.resolve(GEOMETRY))
                infos[tensor.name].CopyFrom(info(TYPES[tensor.dtype], *shape))
    return definitions


@pytest.mark.parametrize("head", BOTH)
def test_what_keeps_the_contract_has_no_problems(head: Head) -> None:
    assert contract_problems(definitions_for(head), head, GEOMETRY) == []


def without_a_signature(definitions: Definitions) -> None:
    del definitions["features"]


def with_another_signature(definitions: Definitions) -> None:
    definitions["embeddings"] = definitions["features"]


def of_another_type(definitions: Definitions) -> None:
    definitions["features"].inputs["images"].dtype = types_pb2.DT_DOUBLE


def of_a_narrow_type(definitions: Definitions) -> None:
    definitions["self_attention"].inputs["block"].dtype = types_pb2.DT_INT64


def of_another_size(definitions: Definitions) -> None:
    definitions["logits"].outputs["logits"].tensor_shape.dim[1].size = 1000


def of_an_open_size(definitions: Definitions) -> None:
    definitions["logits"].inputs["images"].tensor_shape.dim[2].size = -1


def of_a_fixed_batch(definitions: Definitions) -> None:
    definitions["logits"].inputs["images"].tensor_shape.dim[0].size = 1


def of_another_rank(definitions: Definitions) -> None:
    del definitions["class_attention"].outputs["ca_ffn_block_1_att"].tensor_shape.dim[2]


def of_an_unknown_rank(definitions: Definitions) -> None:
    shape = definitions["features"].outputs["features"].tensor_shape
    del shape.dim[:]
    shape.unknown_rank = True


def renamed(definitions: Definitions) -> None:
    outputs = definitions["features"].outputs
    outputs["output_0"].CopyFrom(outputs["features"])
    del outputs["features"]


def with_one_more_output(definitions: Definitions) -> None:
    definitions["logits"].outputs["probabilities"].CopyFrom(info(types_pb2.DT_FLOAT, -1, 10))


def without_an_input(definitions: Definitions) -> None:
    del definitions["self_attention"].inputs["block"]


def of_another_method(definitions: Definitions) -> None:
    definitions["classify"].method_name = "tensorflow/serving/predict"


@pytest.mark.parametrize(
    ("plant", "problems"),
    [
        (without_a_signature, ["features: missing"]),
        (with_another_signature, ["embeddings: not in the contract"]),
        (
            of_another_type,
            ["features: input images: float64 (B, 32, 32, 3); expected float32 (B, 32, 32, 3)"],
        ),
        (of_a_narrow_type, ["self_attention: input block: int64 (B); expected int32 (B)"]),
        (
            of_another_size,
            ["logits: output logits: float32 (B, 1000); expected float32 (B, 10)"],
        ),
        (
            of_an_open_size,
            ["logits: input images: float32 (B, 32, B, 3); expected float32 (B, 32, 32, 3)"],
        ),
        (
            of_a_fixed_batch,
            ["logits: input images: float32 (1, 32, 32, 3); expected float32 (B, 32, 32, 3)"],
        ),
        (
            of_another_rank,
            [
                "class_attention: output ca_ffn_block_1_att: float32 (B, 2, 5); "
                "expected float32 (B, 2, 1, 5)"
            ],
        ),
        (
            of_an_unknown_rank,
            ["features: output features: float32 (); expected float32 (B, 16)"],
        ),
        (
            renamed,
            [
                "features: output features: missing; expected float32 (B, 16)",
                "features: output output_0: float32 (B, 16); expected none",
            ],
        ),
        (
            with_one_more_output,
            ["logits: output probabilities: float32 (B, 10); expected none"],
        ),
        (without_an_input, ["self_attention: input block: missing; expected int32 (B)"]),
        (
            of_another_method,
            ["classify: method tensorflow/serving/predict; expected tensorflow/serving/classify"],
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_deviation_is_told(plant: Callable[[Definitions], None], problems: list[str]) -> None:
    definitions = definitions_for("classifier")
    plant(definitions)
    assert contract_problems(definitions, "classifier", GEOMETRY) == problems


def test_all_deviations_are_told_at_once() -> None:
    definitions = definitions_for("classifier")
    for plant in (with_another_signature, without_a_signature, of_another_method):
        plant(definitions)
    # The extra one is a copy of the one that was taken away.
    assert contract_problems(definitions, "classifier", GEOMETRY) == [
        "features: missing",
        "embeddings: not in the contract",
        "classify: method tensorflow/serving/predict; expected tensorflow/serving/classify",
    ]


def test_nothing_at_all_is_a_problem_for_each_signature() -> None:
    assert contract_problems({}, "features", GEOMETRY) == [
        f"{name}: missing" for name in signatures_for("features", GEOMETRY)
    ]
