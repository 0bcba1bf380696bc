"""A model of a server that explains where it looks."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ..client import Client, ClientError
from ..errors import Code
from .maps import Array
from .models import CLASSIFY, SELF_ATTENTION, AttentionError, AttentionModel

_WAITING = ("START", "LOADING", "UNKNOWN")


@contextlib.contextmanager
def served_model(
    server: str,
    model: str,
    version: int | None = None,
    timeout: float = 300.0,
    label: str | None = None,
) -> Iterator[AttentionModel]:
    """A model of a server. All calls go to the version that answers the first call.

    Args:
        server: HOST:PORT.
        model: the model's name.
        version: its version; None: that with the label, or the latest.
        timeout: seconds for a call.
        label: a label of the version, instead of its number.

    Raises:
        AttentionError: the server is away, or the model is missing or has other signatures.
    """
    with Client(
        server, model, version=version, label=label, timeout=timeout, retries=False
    ) as client:
        try:
            metadata = client.metadata()
        except ClientError as error:
            raise _attention_error(error, client, version) from error
    with Client(server, model, version=metadata.version, timeout=timeout) as client:

        def run(signature: str, inputs: Mapping[str, Any]) -> Mapping[str, Array]:
            try:
                return client.predict(inputs, signature)
            except ClientError as error:
                raise _attention_error(error, client, metadata.version) from error

        signature = metadata.signatures.get(SELF_ATTENTION)
        shapes = (
            {name: tensor.shape for name, tensor in signature.inputs.items()}
            if signature is not None
            else None
        )

        def classify(encoded: bytes) -> list[tuple[str, float]]:
            try:
                (best,) = client.classify(encoded)
            except ClientError as error:
                raise _attention_error(error, client, metadata.version) from error
            return [(label.label, label.probability) for label in best]

        yield AttentionModel(
            model,
            metadata.version,
            shapes,
            run,
            metadata.untrained,
            classify if CLASSIFY in metadata.signatures else None,
        )


def _attention_error(error: ClientError, client: Client, version: int | None) -> AttentionError:
    """The error of a failed call as an AttentionError."""
    named = error.model if version is None else f"{error.model} version {version}"
    if error.code == Code.UNAVAILABLE:
        return AttentionError(
            "away", f"{error.server}: no model server answers there ({error.message})"
        )
    if error.code == Code.DEADLINE_EXCEEDED:
        return AttentionError("failed", f"{error.server}: {named} did not answer in time")
    if error.code != Code.NOT_FOUND:
        return AttentionError("failed", f"{error.server}, {named}: {error.text}")
    try:
        states = {entry.version: entry.state for entry in client.status()}
    except ClientError:
        states = {}
    if any(state in _WAITING for number, state in states.items() if version in (None, number)):
        return AttentionError("loading", f"{error.server} is still loading {named}; try again soon")
    return AttentionError("missing", f"{error.server} serves no {named}: {error.message}")
