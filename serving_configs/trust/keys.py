"""Keys in PEM: elliptic curves P-256, P-384 and P-521, as the Model Signing format has them.

`openssl ecparam -name prime256v1 -genkey -noout -out private.pem` makes one.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import re
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import ConfigError
from ..tree.files import open_file

_LONGEST = 1 << 20

PASSPHRASE = "CAIT_SIGNING_PASSPHRASE"
"""The environment's variable with the passphrase of an encrypted private key."""

TRUSTED_KEYS = "trusted_keys.pem"
"""The public keys of a tree, at its root: its versions have signatures of these keys. It keeps
people from mistakes; who can write the tree can change it, so readers bring a key of their own."""

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_BEGIN = b"BEGIN PUBLIC KEY"
_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class PublicKey:
    """A key that checks signatures.

    Attributes:
        pem: the key as PEM, in the one form that has this key's fingerprint.
    """

    pem: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the PEM, in hexadecimal: what a signature calls the key."""
        return hashlib.sha256(self.pem).hexdigest()

    def signed(self, signature: bytes, message: bytes) -> bool:
        """Whether a signature of a message is this key's."""
        key = serialization.load_pem_public_key(self.pem)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            key.verify(signature, message, ec.ECDSA(_HASHES[key.curve.name]))
        except InvalidSignature:
            return False
        return True


@dataclasses.dataclass(frozen=True)
class PrivateKey:
    """A key that signs. Its text never shows it."""

    _key: ec.EllipticCurvePrivateKey = dataclasses.field(repr=False)

    @functools.cached_property
    def public(self) -> PublicKey:
        """The key that checks what this one signs."""
        return _public(self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """A signature of a message, in DER; another one at each call."""
        return self._key.sign(message, ec.ECDSA(_HASHES[self._key.curve.name]))


def read_private_key(path: pathlib.Path) -> PrivateKey:
    """Reads the key that signs.

    Raises:
        ConfigError: the file cannot be read, is no such key, or has another passphrase.
    """
    content = _read(path)
    passphrase = os.fsencode(os.environ.get(PASSPHRASE, "")) or None
    try:
        key = serialization.load_pem_private_key(content, passphrase)
    except TypeError:
        if passphrase is None:
            raise ConfigError(
                f"{path}: the key is encrypted; expected its passphrase in {PASSPHRASE}"
            ) from None
        # It has none, and cryptography refuses one that is not needed.
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            f"{path}: not a private key in PEM"
            + (f", or {PASSPHRASE} is not its passphrase" if passphrase else "")
            + "; `openssl ecparam -name prime256v1 -genkey -noout` makes one"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
        raise ConfigError(f"{path}: {_kind(key)}; expected an elliptic curve, {_curves()}")
    return PrivateKey(key)


def read_public_keys(paths: Iterable[pathlib.Path]) -> tuple[PublicKey, ...]:
    """Reads the keys whose signatures count; a file may hold several.

    Raises:
        ConfigError: a file cannot be read or holds no such key.
    """
    return tuple(key for path in paths for key in parse_public_keys(_read(path), str(path)))


def parse_public_keys(content: bytes, path: str) -> tuple[PublicKey, ...]:
    """Parses the content of a file of public keys.

    Args:
        content: the content.
        path: the file, for error messages.

    Raises:
        ConfigError: it holds no public key, or something else.
    """
    blocks = _PUBLIC.findall(content)
    if not blocks:
        private = b"PRIVATE KEY" in content
        raise ConfigError(
            f"{path}: {'a private key' if private else 'no public key in PEM'}; expected a public "
            "key, as `openssl ec -in private.pem -pubout` writes it"
        )
    if len(blocks) != content.count(_BEGIN):
        raise ConfigError(f"{path}: a public key without an end; expected whole keys in PEM")
    keys = []
    for block in blocks:
        try:
            key = serialization.load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{path}: not a public key in PEM ({error})") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
            raise ConfigError(f"{path}: {_kind(key)}; expected an elliptic curve, {_curves()}")
        keys.append(_public(key))
    return tuple(keys)


def render_public_keys(keys: Iterable[PublicKey]) -> bytes:
    """The keys as one file, each once."""
    return b"".join(dict.fromkeys(key.pem for key in keys))


def _public(key: ec.EllipticCurvePublicKey) -> PublicKey:
    return PublicKey(
        key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def _kind(key: object) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return f"a key of the curve {key.curve.name}"
    return f"a key of the kind {type(key).__name__.strip('_')}"


def _curves() -> str:
    return ", ".join(_HASHES)


def _read(path: pathlib.Path) -> bytes:
    try:
        with open_file(path) as file:
            return file.read(_LONGEST)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
