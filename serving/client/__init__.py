"""Clients of a model server: `Client`, `AsyncClient`, and the command `python -m serving.client`.

Imports `signatures` and the shared modules of `serving`, never a server. The constructor of a
client loads TensorFlow, which the messages of TF Serving's API need.
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
