"""Writing a model as one SavedModel for three readers.

- TF Serving runs the signatures.
- `hub.KerasLayer` calls the object: `__call__(images, training, return_attention)`, with the
  variables listed as `variables`, `trainable_variables` and `regularization_losses`.
- `tf_keras.models.load_model` rebuilds the functional model from the Keras metadata, with none of
  this project importable.

The layers' own traces are not written (`save_traces=False`): the Keras reader rebuilds from the
configuration, and the others use the functions of `export.saved_model.forward`.
"""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence

import tensorflow as tf
import tf_keras
from tensorflow.core.protobuf import saved_model_pb2

from signatures import Head, signatures_for
from signatures.functions import SignatureFunctions
from signatures.untrained import mark_untrained

from ..compute import DEFAULT, Compute
from ..variants import CaiTConfig
from .attributes import strip_attributes
from .canonical import canonicalise, write_canonical
from .forward import Forward


class SavedModelWriter:
    """Writes a classifier and its feature extractor, which share traced functions.

    Args:
        classifier: what `build_classifier` returned.
        config: what it was built from.
        labels: names of the classes, for the `classify` signature.
        trained: False marks the models for clients of a server, as `signatures.untrained` says.
        compute: how the signatures compute.
    """

    def __init__(
        self,
        classifier: tf_keras.Model,
        config: CaiTConfig,
        labels: Sequence[str] | None = None,
        trained: bool = True,
        compute: Compute = DEFAULT,
    ) -> None:
        self._config = config
        self._trained = trained
        self._forward = Forward(classifier, config, compute)
        self._signatures = SignatureFunctions(
            self._forward.without_self_attention,
            self._forward.logits,
            self._forward.self_attention,
            config.geometry,
            labels,
            self._forward.main if self._forward.has_main else None,
        )

    def write(self, model: tf_keras.Model, head: Head, directory: pathlib.Path) -> None:
        """Writes a model, with its signatures, into a directory that does not exist yet.

        Args:
            model: the classifier, or what `features_of` returned for it.
            head: which of the two.
            directory: becomes the SavedModel.
        """
        signatures = self._signatures.of(head)
        call, weights = self._forward.as_call(head), self._forward.signature_weights.made
        with _callable_as_hub_expects(model, call, weights), _functions_listed():
            tf_keras.models.save_model(
                model,
                str(directory),
                save_format="tf",
                include_optimizer=False,
                save_traces=False,
                signatures=signatures,
            )
        _finish(directory, head, self._config, self._trained, self._forward.has_main)


@contextlib.contextmanager
def _callable_as_hub_expects(
    model: tf_keras.Model,
    call: tf.types.experimental.GenericFunction,
    signature_weights: Sequence[tf.Variable],
) -> Iterator[None]:
    """Adds to a Keras model, while it is saved, the attributes of a reusable SavedModel.

    Beside them is what the signatures read and the model does not have, which no reader looks for.
    They go into the instance's dictionary: Keras has a method or a property of each name on the
    class, and the writer of SavedModels does not look there.
    """
    extra = {
        "__call__": call,
        "variables": tf.__internal__.tracking.wrap(list(model.variables)),
        "trainable_variables": tf.__internal__.tracking.wrap(list(model.trainable_variables)),
        "regularization_losses": tf.__internal__.tracking.wrap([]),
    }
    if signature_weights:
        extra["signature_weights"] = tf.__internal__.tracking.wrap(list(signature_weights))
    for name, value in extra.items():
        model.__dict__[name] = value
        if isinstance(value, tf.__internal__.tracking.Trackable):
            model._track_trackable(value, name, overwrite=True)
    try:
        yield
    finally:
        for name in extra:
            del model.__dict__[name]


@contextlib.contextmanager
def _functions_listed() -> Iterator[None]:
    """Makes `dir` of a layer list only the functions among the instance's attributes.

    The writer looks for functions in every attribute of every layer, three times. One of the
    attributes is a property that writes the layer's configuration as JSON, which takes a quarter of
    the time of writing. The only function on the class of a stock layer, a convolution's for XLA,
    has no traces, and no reader needs it.
    """

    def names(layer: tf_keras.layers.Layer) -> list[str]:
        kinds = (tf.types.experimental.GenericFunction, tf.types.experimental.ConcreteFunction)
        return [name for name, value in vars(layer).items() if isinstance(value, kinds)]

    tf_keras.layers.Layer.__dir__ = names
    try:
        yield
    finally:
        del tf_keras.layers.Layer.__dir__


def _finish(
    directory: pathlib.Path, head: Head, config: CaiTConfig, trained: bool, shared: bool
) -> None:
    """Sets each signature's method, where TF2 writes Predict for all, and makes the bytes
    deterministic.

    Args:
        directory: the SavedModel.
        head: which model it is.
        config: its sizes.
        trained: whether the weights are.
        shared: whether the default and the signature that is equal to it are one to a server, which
            then has their constants once.
    """
    proto = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    for name, signature in signatures_for(head, config.geometry).items():
        proto.meta_graphs[0].signature_def[name].method_name = signature.method
    if not trained:
        mark_untrained(proto.meta_graphs[0])
    if shared:
        signatures = proto.meta_graphs[0].signature_def
        equal = "logits" if head == "classifier" else "features"
        signatures[equal].CopyFrom(signatures["serving_default"])
    canonicalise(proto)
    strip_attributes(proto)
    write_canonical(proto, directory)
