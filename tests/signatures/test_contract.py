"""The contract, held to the table of the design written out a second time."""

import dataclasses
import pathlib

import pytest
from tensorflow.core.protobuf import saved_model_pb2

from export.variants import CaiTConfig
from signatures import BOTH, Geometry, Head, SignatureContract, TensorContract, signatures_for
from signatures.inspection import contract_problems

GEOMETRY = Geometry(
    image_size=224,
    patches=196,
    heads=4,
    embed_dim=192,
    num_classes=1000,
    sa_blocks=24,
    ca_blocks=2,
)
PREDICT, CLASSIFY = "tensorflow/serving/predict", "tensorflow/serving/classify"

# A tensor in words: name, type, shape in letters.
IMAGES = "images float32 B S S 3"
IMAGE_BYTES = "image_bytes string B"
LOGITS = "logits float32 B K"
FEATURES = "features float32 B D"
ATTENTION = ("ca_ffn_block_0_att float32 B H 1 N+1", "ca_ffn_block_1_att float32 B H 1 N+1")

# Signature: method, inputs, outputs.
Table = dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]
CLASSIFIER: Table = {
    "serving_default": (PREDICT, (IMAGES,), (LOGITS,)),
    "logits": (PREDICT, (IMAGES,), (LOGITS,)),
    "features": (PREDICT, (IMAGES,), (FEATURES,)),
    "class_attention": (PREDICT, (IMAGES,), (*ATTENTION, LOGITS)),
    "self_attention": (PREDICT, (IMAGES, "block int32 B"), ("attention float32 B H N N",)),
    "bytes_logits": (PREDICT, (IMAGE_BYTES,), (LOGITS, "probabilities float32 B K")),
    "bytes_features": (PREDICT, (IMAGE_BYTES,), (FEATURES,)),
    "bytes_class_attention": (PREDICT, (IMAGE_BYTES,), (*ATTENTION, LOGITS)),
    "classify": (
        CLASSIFY,
        ("inputs string B",),
        ("classes string B top", "scores float32 B top"),
    ),
}
EXTRACTOR: Table = {
    "serving_default": (PREDICT, (IMAGES,), (FEATURES,)),
    "features": (PREDICT, (IMAGES,), (FEATURES,)),
    "class_attention": (PREDICT, (IMAGES,), (*ATTENTION, FEATURES)),
    "self_attention": (PREDICT, (IMAGES, "block int32 B"), ("attention float32 B H N N",)),
    "bytes_features": (PREDICT, (IMAGE_BYTES,), (FEATURES,)),
    "bytes_class_attention": (PREDICT, (IMAGE_BYTES,), (*ATTENTION, FEATURES)),
}
BY_HEAD: dict[Head, Table] = {"classifier": CLASSIFIER, "features": EXTRACTOR}


def in_words(tensor: TensorContract) -> str:
    return " ".join([tensor.name, tensor.dtype, *map(str, tensor.shape)])


def described(signature: SignatureContract) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return (
        signature.method,
        tuple(map(in_words, signature.inputs)),
        tuple(map(in_words, signature.outputs)),
    )


@pytest.mark.parametrize("head", BOTH)
def test_signatures_are_those_of_the_design(head: Head) -> None:
    found = signatures_for(head, GEOMETRY)
    assert {name: described(signature) for name, signature in found.items()} == BY_HEAD[head]
    assert list(found) == list(BY_HEAD[head])
    assert all(name == signature.name for name, signature in found.items())


@pytest.mark.parametrize("head", BOTH)
def test_everything_has_a_line_for_readers_and_a_batch(head: Head) -> None:
    for signature in signatures_for(head, GEOMETRY).values():
        assert signature.text
        for tensor in (*signature.inputs, *signature.outputs):
            assert tensor.text
            assert "\n" not in tensor.text
            # TF Serving joins requests along dimension 0 of every tensor.
            assert tensor.shape[0] == "B"
            assert "B" not in tensor.shape[1:]


def test_shapes_in_numbers() -> None:
    found = {
        tensor.name: tensor.resolve(GEOMETRY)
        for signature in signatures_for("classifier", GEOMETRY).values()
        for tensor in (*signature.inputs, *signature.outputs)
    }
    assert found == {
        "images": (None, 224, 224, 3),
        "image_bytes": (None,),
        "inputs": (None,),
        "block": (None,),
        "logits": (None, 1000),
        "probabilities": (None, 1000),
        "features": (None, 192),
        "ca_ffn_block_0_att": (None, 4, 1, 197),
        "ca_ffn_block_1_att": (None, 4, 1, 197),
        "attention": (None, 4, 196, 196),
        "classes": (None, 5),
        "scores": (None, 5),
    }


@pytest.mark.parametrize(("classes", "best"), [(1, 1), (4, 4), (5, 5), (6, 5)])
def test_a_head_of_few_classes_has_fewer_best(classes: int, best: int) -> None:
    geometry = dataclasses.replace(GEOMETRY, num_classes=classes)
    for output in signatures_for("classifier", geometry)["classify"].outputs:
        assert output.resolve(geometry) == (None, best)


@pytest.mark.parametrize("blocks", [1, 3])
def test_there_is_an_output_for_each_class_attention_block(blocks: int) -> None:
    geometry = dataclasses.replace(GEOMETRY, ca_blocks=blocks)
    for name in ("class_attention", "bytes_class_attention"):
        outputs = signatures_for("features", geometry)[name].outputs
        assert [output.name for output in outputs] == [
            *(f"ca_ffn_block_{block}_att" for block in range(blocks)),
            "features",
        ]


@pytest.mark.parametrize("head", BOTH)
def test_models_on_disk_keep_the_contract(
    head: Head, tiny_models: dict[Head, pathlib.Path], tiny_config: CaiTConfig
) -> None:
    content = (tiny_models[head] / "saved_model.pb").read_bytes()
    (meta_graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    assert list(meta_graph.meta_info_def.tags) == ["serve"]
    assert contract_problems(meta_graph.signature_def, head, tiny_config.geometry) == []
    # And not those of the other head, or of another geometry.
    other: Head = "features" if head == "classifier" else "classifier"
    assert contract_problems(meta_graph.signature_def, other, tiny_config.geometry)
    assert contract_problems(meta_graph.signature_def, head, GEOMETRY)
