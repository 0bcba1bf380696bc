"""A small SavedModel, y = x / 2 + b, of both styles."""

import pathlib
from typing import Any

import tensorflow as tf

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


class HalfPlus(tf.Module):
    """y = x / 2 + b, as a predict, a classify and a regress signature."""

    def __init__(self, b: float) -> None:
        super().__init__()
        self.a = tf.Variable(0.5)
        self.b = tf.Variable(b)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(self, x: Any) -> dict[str, Any]:
        return {"y": self.a * x + self.b, "twice": 2.0 * (self.a * x + self.b)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs: Any) -> dict[str, Any]:
        y = self.a * self._parse(inputs) + self.b
        labels = tf.tile([["small", "large"]], [tf.shape(y)[0], 1])
        return {"classes": labels, "scores": tf.concat([-y, y], 1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs: Any) -> dict[str, Any]:
        return {"outputs": self.a * self._parse(inputs) + self.b}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"),
            tf.TensorSpec([None], tf.float32, name="seconds"),
        ]
    )
    def slow(self, x: Any, seconds: Any) -> dict[str, Any]:
        """Takes the longest of `seconds`."""
        end = tf.timestamp() + tf.cast(tf.reduce_max(seconds), tf.float64)
        (now,) = tf.while_loop(lambda now: now < end, lambda now: [tf.timestamp()], [end - 1e9])
        return {"y": self.a * x + self.b + 0.0 * tf.cast(now, tf.float32)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"),
            tf.TensorSpec([None], tf.float32, name="seconds"),
            tf.TensorSpec([None], tf.string, name="begun"),
        ]
    )
    def announced(self, x: Any, seconds: Any, begun: Any) -> dict[str, Any]:
        """As `slow`, and writes the file `begun` first: the call is in the model then."""
        with tf.control_dependencies([tf.io.write_file(begun[0], "")]):
            return self.slow(x, seconds)

    @staticmethod
    def _parse(inputs: Any) -> Any:
        return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]


def write_tf2(directory: pathlib.Path, b: float = 2.0) -> None:
    model = HalfPlus(b)
    signatures = {
        "serving_default": model.predict,
        "classify": model.classify,
        "regress": model.regress,
        "slow": model.slow,
        "announced": model.announced,
    }
    tf.saved_model.save(model, str(directory), signatures=signatures)


def write_tf1(directory: pathlib.Path, b: float = 2.0) -> None:
    """The same as a flat graph, as exporters of TensorFlow 1 write it."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        a = v1.Variable(0.5, use_resource=False, name="a")
        bias = v1.Variable(b, use_resource=False, name="b")
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = v1.io.parse_example(
            examples, {"x": tf.io.FixedLenFeature([1], tf.float32), "x2": _optional()}
        )
        x = v1.placeholder(tf.float32, [None], name="x")
        y = tf.add(a * x, bias, name="y")
        scores = tf.add(a * (parsed["x"] + parsed["x2"]), bias, name="scores")
        info, define = v1.saved_model.build_tensor_info, v1.saved_model.build_signature_def
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": define(
                    {"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict"
                ),
                "classify": define({"inputs": info(examples)}, {"scores": info(scores)}, CLASSIFY),
                "regress": define({"inputs": info(examples)}, {"outputs": info(scores)}, REGRESS),
            },
        )
        builder.save()


def _optional() -> Any:
    return tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])
