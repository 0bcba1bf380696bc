"""Examples as the signature `classify` takes them."""

import tensorflow as tf


def example(**features: bytes) -> bytes:
    """A serialised tf.Example with bytes features; `__` in a name stands for a slash."""
    made = tf.train.Example()
    for name, value in features.items():
        made.features.feature[name.replace("__", "/")].bytes_list.value.append(value)
    return bytes(made.SerializeToString())


def examples(files: list[bytes]) -> list[bytes]:
    return [example(image__encoded=encoded) for encoded in files]
