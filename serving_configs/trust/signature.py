"""A version's signature, in the format of OpenSSF Model Signing 1.0.

It is a Sigstore bundle: a DSSE envelope around an in-toto statement, which lists files with their
SHA-256. Listed are the model's own files and the manifest. The manifest lists the files for
servers, so these are signed too; they are not in the hub's archives, and what is listed has to be
there. The predicate also says what the gate found and which weights the model was made from, which
the format lets verifiers ignore. `model_signing verify key` accepts a version's directory and an
unpacked archive.

Sources: the format's description in the `model-signing` package, and the DSSE protocol
(github.com/secure-systems-lab/dsse, protocol.md).
"""

import base64
import binascii
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from ..hub.members import archived_files
from ..tree.manifest import Manifest, ManifestError, parse_manifest
from ..tree.paths import MANIFEST, SIGNATURE
from .keys import PrivateKey, PublicKey

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
# What a verifier passes over, of names that a tool for repositories may have put there.
_GIT = (".git", ".gitattributes", ".github", ".gitignore")


def sign_manifest(manifest: bytes, key: PrivateKey) -> bytes:
    """The signature of a version.

    Args:
        manifest: the content of the version's manifest, with the digest of every file.
        key: the key to sign with.

    Returns:
        The content of the file `SIGNATURE` of the version.

    Raises:
        ManifestError: the manifest is not valid.
    """
    payload = json.dumps(_statement(parse_manifest(manifest), manifest), indent=1).encode()
    bundle = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {
            "publicKey": {"hint": key.public.fingerprint},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD,
            "signatures": [
                {
                    "sig": base64.b64encode(key.sign(_authenticated(payload))).decode(),
                    "keyid": "",
                }
            ],
        },
    }
    return json.dumps(bundle).encode() + b"\n"


def signature_problem(
    signature: bytes | None, manifest: bytes, keys: Sequence[PublicKey]
) -> str | None:
    """Why a signature does not vouch for a manifest; None where it does.

    That the version's files are those of the manifest has to be checked beside it.

    Args:
        signature: the content of the file `SIGNATURE`; None where there is none.
        manifest: the content of the manifest.
        keys: the keys whose signatures count.
    """
    if signature is None:
        return f"not signed: there is no {SIGNATURE}"
    try:
        envelope = _Envelope.parse(signature)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return f"{SIGNATURE}: not a signature; expected a Sigstore bundle with a DSSE envelope"
    signer = envelope.signer(keys)
    if signer is None:
        if any(envelope.hint == key.fingerprint for key in keys):
            return f"{SIGNATURE}: the signature is wrong: it was changed after it was signed"
        return f"{SIGNATURE}: signed by another key ({envelope.hint[:16] or 'unnamed'}...)"
    try:
        vouches = _vouches(json.loads(envelope.payload), parse_manifest(manifest), manifest)
    except ManifestError as error:
        return f"{MANIFEST}: {error}"
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"{SIGNATURE}: a statement that cannot be read ({type(error).__name__}: {error})"
    return None if vouches else f"{SIGNATURE}: it is of another manifest than {MANIFEST}"


@dataclasses.dataclass(frozen=True)
class _Envelope:
    """What is read from a bundle before anything of it is believed."""

    payload: bytes
    signature: bytes
    hint: str

    @classmethod
    def parse(cls, content: bytes) -> "_Envelope":
        bundle = json.loads(content)
        envelope = bundle["dsseEnvelope"]
        (signature,) = envelope["signatures"]
        if envelope["payloadType"] != _PAYLOAD:
            raise ValueError(envelope["payloadType"])
        hint = bundle["verificationMaterial"]["publicKey"]["hint"]
        return cls(
            base64.b64decode(envelope["payload"], validate=True),
            base64.b64decode(signature["sig"], validate=True),
            hint if isinstance(hint, str) and hint.isalnum() else "",
        )

    def signer(self, keys: Iterable[PublicKey]) -> PublicKey | None:
        message = _authenticated(self.payload)
        return next((key for key in keys if key.signed(self.signature, message)), None)


def _authenticated(payload: bytes) -> bytes:
    """What is signed of a payload: DSSE's pre-authentication encoding."""
    kind = _PAYLOAD.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _vouches(statement: Any, manifest: Manifest, content: bytes) -> bool:
    """Whether a signed statement is of a manifest, and says nothing else than it does.

    What `model_signing` signed itself counts too. It says nothing of the gate, and may list the
    files for servers.
    """
    expected = _statement(manifest, content)
    if any(statement[name] != expected[name] for name in ("_type", "predicateType")):
        return False
    predicate, ours = statement["predicate"], expected["predicate"]
    if any(name in predicate and predicate[name] != ours[name] for name in ("checkpoint", "gate")):
        return False
    known = {record.path: record.sha256 for record in manifest.files}
    known[str(MANIFEST)] = hashlib.sha256(content).hexdigest()
    listed = {entry["name"]: entry["digest"] for entry in predicate["resources"]}
    return str(MANIFEST) in listed and all(
        known.get(name) == digest for name, digest in listed.items()
    )


def _statement(manifest: Manifest, content: bytes) -> dict[str, Any]:
    digests = {record.path: record.sha256 for record in archived_files(manifest.files)}
    digests[str(MANIFEST)] = hashlib.sha256(content).hexdigest()
    ordered = sorted(digests.items())
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in ordered)).hexdigest()
    unlisted = [record.path for record in manifest.files if record.path not in digests]
    return {
        "_type": _STATEMENT,
        "subject": [{"name": f"{manifest.model}/{manifest.version}", "digest": {"sha256": root}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [*_GIT, *sorted([str(SIGNATURE), *unlisted])],
            },
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest} for name, digest in ordered
            ],
            "checkpoint": {
                "source": manifest.checkpoint.source,
                "sha256": manifest.checkpoint.sha256,
                "trained": manifest.checkpoint.trained,
            },
            "gate": {"images": manifest.images, "outputs": [dict(f) for f in manifest.gate]},
        },
    }
