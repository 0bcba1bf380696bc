"""Writing a model as one SavedModel for three readers.

- TF Serving runs the signatures.
- `hub.KerasLayer` calls the object: `__call__(images, training, return_attention)`, with the
  variables listed as `variables`, `trainable_variables` and `regularization_losses`.
- `tf_keras.models.load_model` rebuilds the functional model from the Keras metadata, with none of
  this project importable.

The layers' own traces are not written (`save_traces=False`): the Keras reader rebuilds from the
configuration, and the others use the functions traced here, which all share one graph.
"""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence

import tensorflow as tf
import tf_keras
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from signatures import Head, signatures_for
from signatures.functions import ForwardOutputs, build_signatures

from .names import attention_name, ca_block_name, sa_block_name
from .variants import CaiTConfig


def write_saved_model(
    model: tf_keras.Model,
    head: Head,
    config: CaiTConfig,
    directory: pathlib.Path,
    labels: Sequence[str] | None = None,
) -> None:
    """Writes a model, with its signatures, into a directory that does not exist yet.

    Args:
        model: what `build_classifier` or `features_of` returned.
        head: which of the two.
        config: what the model was built from.
        directory: becomes the SavedModel.
        labels: names of the classes, for the `classify` signature.
    """
    forward = _Forward(model, head, config)
    signatures = build_signatures(forward.inference, forward.inline, head, config.geometry, labels)
    with _callable_as_hub_expects(model, forward):
        tf_keras.models.save_model(
            model,
            str(directory),
            save_format="tf",
            include_optimizer=False,
            save_traces=False,
            signatures=signatures,
        )
    _set_methods(directory, head, config)


class _Forward:
    """A model's graph, traced once for each value of `training`, for all that calls it."""

    def __init__(self, model: tf_keras.Model, head: Head, config: CaiTConfig) -> None:
        main, self_attention, class_attention = model.output
        self._blocks = [sa_block_name(i) for i in range(config.sa_blocks)]
        self._class_blocks = [ca_block_name(i) for i in range(config.ca_blocks)]
        self._head = head
        features = model.get_layer("head").input if head == "classifier" else main
        everything = tf_keras.Model(
            model.input,
            [
                main,
                features,
                *(self_attention[attention_name(name)] for name in self._blocks),
                *(class_attention[attention_name(name)] for name in self._class_blocks),
            ],
        )
        self._everything = everything
        spec = tf.TensorSpec((None, config.image_size, config.image_size, 3), tf.float32)
        self._spec = spec
        # Concrete functions: a polymorphic one would be traced once more by the writer.
        self._run = {
            training: tf.function(everything, autograph=False).get_concrete_function(
                spec, training=training
            )
            for training in ((False, True) if config.acts_in_training else (False,))
        }

    def inference(self, images: tf.Tensor) -> ForwardOutputs:
        """A call of the graph that all callers share."""
        return self._outputs(self._run[False](images))

    def inline(self, images: tf.Tensor) -> ForwardOutputs:
        """The model's operations, in the graph that this is called in."""
        return self._outputs(self._everything(images, training=False))

    def _outputs(self, flat: list[tf.Tensor]) -> ForwardOutputs:
        main, features, *attention = flat
        split = len(self._blocks)
        return ForwardOutputs(
            main if self._head == "classifier" else None,
            features,
            attention[:split],
            attention[split:],
        )

    def as_call(self) -> tf.types.experimental.GenericFunction:
        """`__call__` of the restored object, traced for every combination of its flags."""

        def call(
            images: tf.Tensor, training: bool = False, return_attention: bool = True
        ) -> object:
            flat = self._run.get(bool(training), self._run[False])(images)
            if not return_attention:
                return flat[0]
            outputs = self._outputs(flat)
            return (
                flat[0],
                _named(self._blocks, outputs.self_attention),
                _named(self._class_blocks, outputs.class_attention),
            )

        traced = tf.function(call, autograph=False)
        for training in (False, True):
            for return_attention in (True, False):
                traced.get_concrete_function(
                    self._spec, training=training, return_attention=return_attention
                )
        return traced


def _named(blocks: Sequence[str], attention: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    return {attention_name(b): a for b, a in zip(blocks, attention, strict=True)}


@contextlib.contextmanager
def _callable_as_hub_expects(model: tf_keras.Model, forward: _Forward) -> Iterator[None]:
    """Hangs on a Keras model, while it is saved, what a reusable SavedModel has to have.

    Set in the instance's dictionary because Keras has a method or a property of each of these
    names on the class, which the writer of SavedModels does not follow.
    """
    extra = {
        "__call__": forward.as_call(),
        "variables": tf.__internal__.tracking.wrap(list(model.variables)),
        "trainable_variables": tf.__internal__.tracking.wrap(list(model.trainable_variables)),
        "regularization_losses": tf.__internal__.tracking.wrap([]),
    }
    for name, value in extra.items():
        model.__dict__[name] = value
        if isinstance(value, tf.__internal__.tracking.Trackable):
            model._track_trackable(value, name, overwrite=True)
    try:
        yield
    finally:
        for name in extra:
            del model.__dict__[name]


def _set_methods(directory: pathlib.Path, head: Head, config: CaiTConfig) -> None:
    """Gives each signature the contract's method; TF2 writes them all as Predict."""
    path = directory / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for name, signature in signatures_for(head, config.geometry).items():
        proto.meta_graphs[0].signature_def[name].method_name = signature.method
    path.write_bytes(proto.SerializeToString(deterministic=True))
    # The fingerprint is of the file that was just changed.
    (directory / "fingerprint.pb").write_bytes(fingerprinting.CreateFingerprintDef(str(directory)))
