"""Keys that sign versions, and their files."""

import dataclasses
import pathlib

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

PEM = serialization.Encoding.PEM


@dataclasses.dataclass(frozen=True)
class KeyFiles:
    """A pair of keys in PEM files."""

    private: pathlib.Path
    public: pathlib.Path


def write_keys(
    folder: pathlib.Path,
    name: str = "key",
    curve: ec.EllipticCurve | None = None,
    passphrase: bytes | None = None,
) -> KeyFiles:
    """Makes a new pair of keys, of the curve P-256 if none is given."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    files = KeyFiles(folder / f"{name}.pem", folder / f"{name}.public.pem")
    files.private.write_bytes(
        key.private_bytes(
            PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase)
            if passphrase
            else serialization.NoEncryption(),
        )
    )
    files.public.write_bytes(
        key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return files
