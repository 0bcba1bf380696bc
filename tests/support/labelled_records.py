"""Labelled images as the jobs read them."""

import pathlib
from collections.abc import Sequence

import tensorflow as tf

from tests.support.paths import DATA


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def write_shard(
    path: pathlib.Path, images: Sequence[tuple[bytes, int | None]], first_label: int = 0
) -> None:
    """Writes encoded images with their classes; they are named `<file>-<number>.png`."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, (encoded, label) in enumerate(images):
            features = {
                "image/encoded": _bytes(encoded),
                "image/filename": _bytes(f"{path.name}-{number}.png".encode()),
            }
            if label is not None:
                value = tf.train.Int64List(value=[label + first_label])
                features["image/class/label"] = tf.train.Feature(int64_list=value)
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def write_two(path: pathlib.Path) -> str:
    """Writes the smallest sample for the gate, which compares attention on two images."""
    photos = [(DATA / "photos" / name).read_bytes() for name in ("cat.jpg", "tiny.png")]
    write_shard(path, [(photo, None) for photo in photos])
    return str(path)
