"""The contract: every signature of a published model, its tensors, and their meaning.

The functions of the signatures are built from this table, the gate runs all of it, and tests and
documentation read it.
"""

import dataclasses
from typing import Literal

from .geometry import Geometry

Head = Literal["classifier", "features"]
BOTH: tuple[Head, ...] = ("classifier", "features")
CLASSIFIER: tuple[Head, ...] = ("classifier",)

PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"

EXAMPLE_IMAGE_KEY = "image/encoded"
"""Feature of a `tf.train.Example` that holds the JPEG or PNG."""

TOP_K = 5
"""Classes in a reply of `classify`."""


@dataclasses.dataclass(frozen=True)
class TensorContract:
    """A named tensor of a signature.

    Attributes:
        name: key in requests and replies.
        dtype: TensorFlow's name of the dtype: "float32", "int32" or "string".
        shape: letters of `Geometry` and numbers. The first is always "B", the batch, because TF
            Serving joins requests along dimension 0 of every input and output.
        text: description in one line.
    """

    name: str
    dtype: str
    shape: tuple[str | int, ...]
    text: str

    def resolve(self, geometry: Geometry) -> tuple[int | None, ...]:
        """The shape of one model in numbers; None is the batch."""
        sizes = {
            "B": None,
            "S": geometry.image_size,
            "N": geometry.patches,
            "N+1": geometry.patches + 1,
            "H": geometry.heads,
            "D": geometry.embed_dim,
            "K": geometry.num_classes,
            # A classifier may have fewer than five classes.
            "top": min(TOP_K, geometry.num_classes),
        }
        return tuple(sizes[size] if isinstance(size, str) else size for size in self.shape)


@dataclasses.dataclass(frozen=True)
class SignatureContract:
    """A named entry point of a model.

    Attributes:
        name: key in the SavedModel.
        inputs: tensors of a request.
        outputs: tensors of a reply.
        text: description in one line.
        method: TF Serving's name of the API method.
    """

    name: str
    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]
    text: str
    method: str = PREDICT_METHOD


_IMAGES = TensorContract(
    "images", "float32", ("B", "S", "S", 3), "RGB, normalised with ImageNet's mean and deviation"
)
_IMAGE_BYTES = TensorContract("image_bytes", "string", ("B",), "JPEG or PNG of any size")
_BLOCK = TensorContract("block", "int32", ("B",), "number of a self-attention block for each image")
_EXAMPLES = TensorContract(
    "inputs", "string", ("B",), f"serialised tf.train.Example with the feature {EXAMPLE_IMAGE_KEY}"
)
_LOGITS = TensorContract("logits", "float32", ("B", "K"), "unnormalised scores of the classes")
_PROBABILITIES = TensorContract("probabilities", "float32", ("B", "K"), "softmax of the logits")
_FEATURES = TensorContract(
    "features", "float32", ("B", "D"), "the class token after the last normalisation"
)
_ATTENTION = TensorContract(
    "attention", "float32", ("B", "H", "N", "N"), "that block's attention after the talking heads"
)
_CLASSES = TensorContract("classes", "string", ("B", "top"), "labels, best first")
_SCORES = TensorContract("scores", "float32", ("B", "top"), "their probabilities")


def class_attention_output(block: int) -> TensorContract:
    """The class attention of one block, as an output of a signature."""
    return TensorContract(
        f"ca_ffn_block_{block}_att",
        "float32",
        ("B", "H", 1, "N+1"),
        f"class attention of block {block} after softmax, the class token first",
    )


def signatures_for(head: Head, geometry: Geometry) -> dict[str, SignatureContract]:
    """Every signature of a model with this head by name, in the order of the table."""
    main = (_LOGITS if head == "classifier" else _FEATURES,)
    attention = tuple(class_attention_output(block) for block in range(geometry.ca_blocks))
    images, encoded = (_IMAGES,), (_IMAGE_BYTES,)
    # fmt: off
    table = (
        (BOTH, SignatureContract(
            "serving_default", images, main, f"the {main[0].name}")),
        (CLASSIFIER, SignatureContract(
            "logits", images, (_LOGITS,), "the logits")),
        (BOTH, SignatureContract(
            "features", images, (_FEATURES,), "the features")),
        (BOTH, SignatureContract(
            "class_attention", images, (*attention, *main),
            f"class attention of every block, and the {main[0].name}")),
        (BOTH, SignatureContract(
            "self_attention", (_IMAGES, _BLOCK), (_ATTENTION,),
            "attention of the self-attention block that each image asks for")),
        (CLASSIFIER, SignatureContract(
            "bytes_logits", encoded, (_LOGITS, _PROBABILITIES), "logits of encoded images")),
        (BOTH, SignatureContract(
            "bytes_features", encoded, (_FEATURES,), "features of encoded images")),
        (BOTH, SignatureContract(
            "bytes_class_attention", encoded, (*attention, *main),
            "class attention of encoded images")),
        (CLASSIFIER, SignatureContract(
            "classify", (_EXAMPLES,), (_CLASSES, _SCORES),
            f"the {TOP_K} best classes of encoded images", CLASSIFY_METHOD)),
    )
    # fmt: on
    return {row.name: row for heads, row in table if head in heads}
