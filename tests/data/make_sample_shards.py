"""Writes the sample shards from the photographs beside this file.

python tests/data/make_sample_shards.py
"""

import pathlib

import tensorflow as tf

DATA = pathlib.Path(__file__).parent
# The first two have their attention compared: a JPEG and a PNG.
SHARDS = (
    ("cat.jpg", "tiny.png", "astronaut_444.jpg", "portrait_tall.jpg"),
    ("coffee_progressive.jpg", "coffee_cmyk.jpg", "cat_grayscale.jpg", "cat_alpha.png"),
)


def example(name: str) -> bytes:
    """A photograph as a serialised `tf.train.Example`."""

    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "image/encoded": feature((DATA / "photos" / name).read_bytes()),
        "image/filename": feature(name.encode()),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(
        deterministic=True
    )


def main() -> None:
    """Writes every shard."""
    for number, names in enumerate(SHARDS):
        path = DATA / f"sample-shard-{number:05}-of-{len(SHARDS):05}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for name in names:
                writer.write(example(name))


if __name__ == "__main__":
    main()
