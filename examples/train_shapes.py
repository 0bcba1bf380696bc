"""Trains a small CaiT from scratch on drawn photographs of shapes: minutes on two cores.

    python -m examples.train_shapes --to build/shapes

It writes what the publish job takes: weights of half a megabyte, the architecture, which is no
variant, and the names of the classes. `examples/shapes` has such weights.
"""

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import tensorflow as tf
import tf_keras

from examples.draw_shapes import CLASSES, TEST_SEED, TRAINING_SEED, draw_shape, drawn_set
from export import CaiTConfig, create_cait, preprocess, save_checkpoint
from signatures.addresses import disk_path
from signatures.preprocessing import normalize

CONFIG = CaiTConfig(
    image_size=96,
    patch_size=16,
    embed_dim=64,
    heads=4,
    sa_blocks=4,
    # Of a network this shallow every block may have its say from the start.
    layer_scale_init=0.3,
    num_classes=len(CLASSES),
)

BATCH = 64
_STEPS_OF_EPOCH = 100

_PRODUCTS = ("_qkv", "attn_q", "attn_k", "attn_v", "attn_proj", "mlp_fc1", "mlp_fc2")
_TALKING_HEADS = ("attn_proj_l", "attn_proj_w")


def train(steps: int, photographs: int, seed: int) -> tf_keras.Model:
    """Trains a model.

    Args:
        steps: batches of `BATCH` photographs.
        photographs: how many are drawn; they are turned, mirrored and coloured anew in each batch.
        seed: of the weights and of the order.
    """
    tf_keras.utils.set_random_seed(seed)
    model = create_cait(CONFIG)
    _wake(model)
    logits = tf_keras.Model(model.input, model.output[0])
    warmup = min(100, steps // 10)
    rate = tf_keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=2e-3, warmup_steps=warmup
    )
    logits.compile(
        tf_keras.optimizers.AdamW(rate, weight_decay=0.02, clipnorm=1.0),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    drawn = [draw_shape((TRAINING_SEED, number)) for number in range(photographs)]
    pixels = np.stack([np.asarray(shape.image) for shape in drawn])
    labels = np.array([shape.label for shape in drawn])
    epoch = min(_STEPS_OF_EPOCH, steps)
    logits.fit(
        _batches(pixels, labels, seed), steps_per_epoch=epoch, epochs=steps // epoch, verbose=2
    )
    return model


def _wake(model: tf_keras.Model) -> None:
    """Gives a model initial weights with which a shallow and narrow one learns in minutes.

    timm's are right for the variants. A network of 64 features hardly reacts to images with them.
    """
    positions = model.get_layer("pos_embed").kernel
    positions.assign(tf.random.normal(positions.shape, stddev=0.3))
    for layer in model.layers:
        if layer.name.endswith(_PRODUCTS):
            shape = layer.kernel.shape
            layer.kernel.assign(tf.random.normal(shape, stddev=shape[0] ** -0.5))
        elif layer.name.endswith(_TALKING_HEADS):
            layer.kernel.assign(tf.eye(CONFIG.heads))


def _batches(
    pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], seed: int
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(len(pixels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            turned = [_turned(photograph, random) for photograph in pixels[chosen]]
            yield normalize(np.stack(turned)).numpy(), labels[chosen]


def _turned(
    photograph: npt.NDArray[np.uint8], random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """The same shape: turned, mirrored, with other colours."""
    turned = np.rot90(photograph, int(random.integers(4)))
    mirrored = turned[:, :: int(random.choice([-1, 1]))]
    coloured: npt.NDArray[np.uint8] = mirrored[..., random.permutation(3)]
    return coloured


def accuracy(model: tf_keras.Model, images: int) -> int:
    """How many of the photographs for tests a model names right.

    They are files, prepared as the signatures of the published model do it.
    """
    right = 0
    shapes = list(drawn_set(images, TEST_SEED))
    for start in range(0, images, BATCH):
        part = shapes[start : start + BATCH]
        size = CONFIG.image_size
        prepared = preprocess([s.encoded() for s in part], "cait_xxs24_224", image_size=size)
        answers = model(prepared)[0].numpy().argmax(axis=1)
        right += int((answers == [shape.label for shape in part]).sum())
    return right


def save(model: tf_keras.Model, directory: pathlib.Path) -> None:
    """Writes a checkpoint with weights in float16, which is what the model was rounded to."""
    save_checkpoint(model, directory, CLASSES)
    weights = directory / "model.safetensors"
    tensors = safetensors.numpy.load_file(weights)
    narrow = {key: tensor.astype(np.float16) for key, tensor in tensors.items()}
    safetensors.numpy.save_file(narrow, weights)
    weights.chmod(0o644)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains a model, measures it, and writes its checkpoint."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.train_shapes", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--to", metavar="DIR", type=disk_path, required=True, help="where the checkpoint goes"
    )
    for name, default, text in (
        ("steps", 1500, f"batches of {BATCH}"),
        ("photographs", 6000, "how many are drawn"),
        ("test_images", 600, "photographs to measure it on"),
        ("seed", 1, "of the weights and the order"),
        ("threads", 2, "cores to use"),
    ):
        help = f"{text} (default: {default})"
        parser.add_argument(f"--{name}", metavar="N", type=int, default=default, help=help)
    flags = parser.parse_args(argv)
    tf.config.threading.set_intra_op_parallelism_threads(flags.threads)
    tf.config.threading.set_inter_op_parallelism_threads(flags.threads)
    started = time.monotonic()
    model = train(flags.steps, flags.photographs, flags.seed)
    # What is measured is what is written.
    for weight in model.weights:
        weight.assign(weight.numpy().astype(np.float16).astype(np.float32))
    right = accuracy(model, flags.test_images)
    save(model, flags.to)
    figures = {
        "steps": flags.steps,
        "photographs": flags.photographs,
        "seed": flags.seed,
        "test_images": flags.test_images,
        "test_seed": TEST_SEED,
        "right": right,
    }
    (flags.to / "training.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(
        f"{flags.to}: {right} of {flags.test_images} photographs right "
        f"({100 * right / flags.test_images:.1f} %), after {time.monotonic() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
