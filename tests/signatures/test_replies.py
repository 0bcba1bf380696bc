"""What the signatures answer, and how they refuse, in a session as a server runs them."""

import pathlib

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from export.checkpoints.random_weights import seeded_normal
from export.reference.forward_pass import forward
from export.reference.preprocessing import load_pixels, normalize
from export.variants import CaiTConfig
from signatures import BOTH, PREDICT_METHOD, Geometry, Head, signatures_for
from signatures.contract import EXAMPLE_IMAGE_KEY
from tests.support.arrays import Serve
from tests.support.examples import example, examples
from tests.support.paths import DATA

Array = npt.NDArray[np.float32]

BATCH = 5
IMAGES = seeded_normal("functions", (BATCH, 32, 32, 3))
PHOTOS = DATA / "photos"
FILES = [(PHOTOS / name).read_bytes() for name in ("cat.jpg", "tiny.png", "cat_grayscale.jpg")]
PIXELS = normalize(np.stack([load_pixels(encoded, 32) for encoded in FILES]))

# The errors of a session: all that a server answers with INVALID_ARGUMENT.
REFUSED = tf.errors.InvalidArgumentError


@pytest.fixture(scope="module")
def classifier(tiny_served: dict[Head, Serve]) -> Serve:
    return tiny_served["classifier"]


@pytest.fixture(scope="module")
def geometry(tiny_config: CaiTConfig) -> Geometry:
    return tiny_config.geometry


@pytest.fixture(scope="module")
def reference(tiny_tensors: dict[str, Array]) -> dict[str, Array]:
    """Every output of the signatures that take `images`, for `IMAGES`, and each block's attention
    as `block 0` and `block 1`.
    """
    wanted: dict[str, Array] = {}

    def sink(block: int, attention: Array) -> None:
        wanted[f"block {block}"] = attention.copy()

    outputs = forward(tiny_tensors, IMAGES, sink)
    assert outputs.logits is not None
    wanted |= {"logits": outputs.logits, "features": outputs.features}
    return wanted | {f"ca_ffn_block_{i}_att": a for i, a in enumerate(outputs.class_attention)}


@pytest.mark.parametrize("head", BOTH)
@pytest.mark.parametrize("name", ["serving_default", "logits", "features", "class_attention"])
def test_replies_are_those_of_the_reference(
    name: str,
    head: Head,
    tiny_served: dict[Head, Serve],
    geometry: Geometry,
    reference: dict[str, Array],
) -> None:
    if name not in signatures_for(head, geometry):
        assert (name, head) == ("logits", "features")
        return
    reply = tiny_served[head](name, images=IMAGES)
    outputs = signatures_for(head, geometry)[name].outputs
    assert set(reply) == {output.name for output in outputs}
    for key, value in reply.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, reference[key], rtol=0, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("head", BOTH)
@pytest.mark.parametrize("blocks", [[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]], ids=str)
def test_each_image_gets_the_attention_of_the_block_that_it_asks_for(
    blocks: list[int], head: Head, tiny_served: dict[Head, Serve], reference: dict[str, Array]
) -> None:
    found = tiny_served[head]("self_attention", images=IMAGES, block=blocks)["attention"]
    assert (found.shape, found.dtype) == ((BATCH, 2, 4, 4), np.float32)
    for i, block in enumerate(blocks):
        np.testing.assert_allclose(found[i], reference[f"block {block}"][i], rtol=0, atol=1e-5)
        assert np.abs(found[i] - reference[f"block {1 - block}"][i]).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("head", BOTH)
def test_self_attention_is_that_of_the_call(
    head: Head, tiny_models: dict[Head, pathlib.Path], tiny_served: dict[Head, Serve]
) -> None:
    blocks = [1, 0, 1, 1, 0]
    found = tiny_served[head]("self_attention", images=IMAGES, block=blocks)["attention"]
    _, self_attention, _ = tf.saved_model.load(str(tiny_models[head]))(tf.constant(IMAGES))
    for i, block in enumerate(blocks):
        wanted = self_attention[f"sa_ffn_block_{block}_att"][i]
        np.testing.assert_allclose(found[i], wanted, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("head", BOTH)
def test_encoded_images_get_the_replies_of_their_pixels(
    head: Head, tiny_served: dict[Head, Serve], geometry: Geometry
) -> None:
    serve = tiny_served[head]
    names = [name for name in signatures_for(head, geometry) if name.startswith("bytes_")]
    assert len(names) == (3 if head == "classifier" else 2)
    for name in names:
        reply = serve(name, image_bytes=FILES)
        probabilities = reply.pop("probabilities", None)
        wanted = serve(name.removeprefix("bytes_"), images=PIXELS)
        assert set(reply) == set(wanted)
        for key, value in reply.items():
            np.testing.assert_allclose(value, wanted[key], rtol=0, atol=1e-6, err_msg=key)
        assert (probabilities is not None) == (name == "bytes_logits")


def test_probabilities_are_the_softmax_of_the_logits(classifier: Serve) -> None:
    reply = classifier("bytes_logits", image_bytes=FILES)
    exponentials = np.exp(reply["logits"].astype(np.float64))
    wanted = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(reply["probabilities"], wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(reply["probabilities"].sum(axis=1), 1, rtol=0, atol=1e-6)


def test_classify_gives_the_five_best_best_first(classifier: Serve) -> None:
    probabilities = classifier("bytes_logits", image_bytes=FILES)["probabilities"]
    reply = classifier("classify", inputs=examples(FILES))
    order = np.argsort(-probabilities, axis=1)[:, :5]
    # Without names, a class is its number.
    assert reply["classes"].tolist() == [[str(i).encode() for i in row] for row in order.tolist()]
    wanted = np.take_along_axis(probabilities, order, axis=1)
    np.testing.assert_allclose(reply["scores"], wanted, rtol=0, atol=1e-6)
    assert (np.diff(reply["scores"], axis=1) < 0).all()


def test_classify_passes_over_other_features(classifier: Serve) -> None:
    more = example(image__encoded=FILES[0], image__filename=b"cat.jpg", label=b"cat")
    (wanted,) = classifier("classify", inputs=examples(FILES[:1]))["classes"].tolist()
    assert classifier("classify", inputs=[more])["classes"].tolist() == [wanted]


@pytest.mark.parametrize("head", BOTH)
def test_no_images_get_no_replies(
    head: Head, tiny_served: dict[Head, Serve], geometry: Geometry
) -> None:
    for name, signature in signatures_for(head, geometry).items():
        inputs = {
            tensor.name: np.zeros(
                [size or 0 for size in tensor.resolve(geometry)],
                object if tensor.dtype == "string" else tensor.dtype,
            )
            for tensor in signature.inputs
        }
        reply = tiny_served[head](name, **inputs)
        for output in signature.outputs:
            wanted = tuple(size or 0 for size in output.resolve(geometry))
            assert reply[output.name].shape == wanted, (name, output.name)


# Refusals. A fed array passes Python unchecked (see `serve_from`), as a request passes a server.


@pytest.mark.parametrize("head", BOTH)
@pytest.mark.parametrize(
    "shape", [(1, 48, 48, 3), (1, 32, 48, 3), (1, 32, 32, 1), (1, 3, 32, 32), (32, 32, 3)], ids=str
)
def test_images_of_another_shape_are_refused(
    shape: tuple[int, ...], head: Head, tiny_served: dict[Head, Serve], geometry: Geometry
) -> None:
    for name, signature in signatures_for(head, geometry).items():
        inputs = {tensor.name for tensor in signature.inputs}
        if "images" not in inputs:
            continue
        block = {"block": [0]} if "block" in inputs else {}
        with pytest.raises(REFUSED) as caught:
            tiny_served[head](name, images=np.zeros(shape, np.float32), **block)
        found = ",".join(map(str, shape))
        assert f"[{found}] is not compatible with expected shape [?,32,32,3]" in str(caught.value)


@pytest.mark.parametrize("block", [-1, 2, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("head", BOTH)
def test_a_block_that_there_is_not_is_refused(
    block: int, head: Head, tiny_served: dict[Head, Serve]
) -> None:
    with pytest.raises(REFUSED, match="block must be 0 to 1"):
        tiny_served[head]("self_attention", images=IMAGES[:3], block=[0, block, 1])


@pytest.mark.parametrize(
    ("images", "blocks"), [(2, 1), (1, 2), (2, 0), (0, 1)], ids=lambda value: str(value)
)
def test_another_number_of_blocks_than_images_is_refused(
    images: int, blocks: int, classifier: Serve
) -> None:
    with pytest.raises(REFUSED, match="images and block must have the same batch size"):
        classifier("self_attention", images=IMAGES[:images], block=np.zeros(blocks, np.int32))


@pytest.mark.parametrize("shape", [(), (2, 1)], ids=str)
def test_a_block_that_is_no_list_is_refused(shape: tuple[int, ...], classifier: Serve) -> None:
    with pytest.raises(REFUSED, match=r"is not compatible with expected shape \[\?\]"):
        classifier("self_attention", images=IMAGES[:2], block=np.zeros(shape, np.int32))


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "Input is empty. One of JPEG, PNG required."),
        (b"certainly no image", "Unknown image file format. One of JPEG, PNG required."),
        (FILES[0][:2000], "Invalid JPEG data"),
        (FILES[1][:200], "Invalid PNG data"),
    ],
    ids=["empty", "text", "cut JPEG", "cut PNG"],
)
@pytest.mark.parametrize("head", BOTH)
def test_one_image_that_cannot_be_decoded_fails_its_whole_batch(
    encoded: bytes, message: str, head: Head, tiny_served: dict[Head, Serve], geometry: Geometry
) -> None:
    batch = [FILES[0], encoded, FILES[1]]
    for name, signature in signatures_for(head, geometry).items():
        if signature.method == PREDICT_METHOD and not name.startswith("bytes_"):
            continue
        (tensor,) = signature.inputs
        given = batch if tensor.name == "image_bytes" else examples(batch)
        with pytest.raises(REFUSED) as caught:
            tiny_served[head](name, **{tensor.name: given})
        assert message in str(caught.value)


@pytest.mark.parametrize("shape", [(), (1, 1)], ids=str)
def test_encoded_images_that_are_no_list_are_refused(
    shape: tuple[int, ...], classifier: Serve
) -> None:
    for name, key in (("bytes_logits", "image_bytes"), ("classify", "inputs")):
        given = np.full(shape, FILES[0] if key == "image_bytes" else examples(FILES)[0], object)
        with pytest.raises(REFUSED, match="is not compatible with expected shape"):
            classifier(name, **{key: given})


@pytest.mark.parametrize(
    ("serialised", "message"),
    [
        (example(image__format=b"jpeg"), EXAMPLE_IMAGE_KEY),
        (b"", EXAMPLE_IMAGE_KEY),
        (b"certainly no example", "Could not parse example input"),
    ],
    ids=["another feature", "empty", "text"],
)
def test_an_example_without_an_image_is_refused(
    serialised: bytes, message: str, classifier: Serve
) -> None:
    with pytest.raises(REFUSED, match=message):
        classifier("classify", inputs=[*examples(FILES[:1]), serialised])


def test_an_example_with_two_images_is_refused(classifier: Serve) -> None:
    made = tf.train.Example.FromString(examples(FILES[:1])[0])
    made.features.feature[EXAMPLE_IMAGE_KEY].bytes_list.value.append(FILES[1])
    with pytest.raises(REFUSED, match=EXAMPLE_IMAGE_KEY):
        classifier("classify", inputs=[made.SerializeToString()])
