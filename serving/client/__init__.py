"""Clients of a model server: `Client`, `AsyncClient`, and the command `python -m serving.client`.

Imports `signatures`, and of `serving` what all of it shares; never a server. TensorFlow, which the
messages of TF Serving's API need, is loaded when a client is made.
"""

from .asynchronous import AsyncClient
from .blocking import Client
from .calls import FailedImagesError
from .channels import ClientError, Tls
from .images import InvalidImagesError
from .types import Label, Metadata, VersionStatus

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "FailedImagesError",
    "InvalidImagesError",
    "Label",
    "Metadata",
    "Tls",
    "VersionStatus",
]
