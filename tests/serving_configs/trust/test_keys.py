"""Keys in PEM: which ones sign, and what is said of the others."""

import pathlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from serving_configs.errors import ConfigError
from serving_configs.trust.keys import (
    PASSPHRASE,
    read_private_key,
    read_public_keys,
    render_public_keys,
)
from tests.support.keys import PEM, write_keys


@pytest.mark.parametrize(
    "curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda c: c.name
)
def test_what_one_key_signs_no_other_does(curve: ec.EllipticCurve, tmp_path: pathlib.Path) -> None:
    files = write_keys(tmp_path, curve=curve)
    key, (public,) = read_private_key(files.private), read_public_keys([files.public])
    (other,) = read_public_keys([write_keys(tmp_path, "other", curve).public])
    assert key.public == public
    signature = key.sign(b"message")
    assert public.signed(signature, b"message")
    assert not public.signed(signature, b"massage")
    assert not other.signed(signature, b"message")
    assert not public.signed(b"", b"message")


def test_a_file_holds_several_public_keys(tmp_path: pathlib.Path) -> None:
    keys = read_public_keys([write_keys(tmp_path, name).public for name in ("a", "b")])
    both = tmp_path / "both.pem"
    both.write_bytes(b"# of the last two years\n" + render_public_keys([*keys, keys[0]]))
    assert read_public_keys([both]) == keys
    # As an editor or `cat` leaves them: without a last newline, with spaces, of another system.
    text = b"".join(key.pem.rstrip() for key in keys)
    for content in (text, text + b"  \n", text.replace(b"\n", b"\r\n")):
        both.write_bytes(content)
        assert read_public_keys([both]) == keys
    both.write_bytes(keys[0].pem + keys[1].pem[:60])
    with pytest.raises(ConfigError, match="a public key without an end"):
        read_public_keys([both])


def test_a_key_with_a_passphrase(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_keys(tmp_path, passphrase=b"secret")
    with pytest.raises(ConfigError, match=f"the key is encrypted; .*{PASSPHRASE}"):
        read_private_key(files.private)
    monkeypatch.setenv(PASSPHRASE, "wrong")
    with pytest.raises(ConfigError, match="or CAIT_SIGNING_PASSPHRASE is not its passphrase"):
        read_private_key(files.private)
    monkeypatch.setenv(PASSPHRASE, "secret")
    assert read_private_key(files.private).public in read_public_keys([files.public])
    # One that is set for another key.
    plain = write_keys(tmp_path, "plain")
    assert read_private_key(plain.private).public in read_public_keys([plain.public])


def test_what_is_no_key_is_named(tmp_path: pathlib.Path) -> None:
    files = write_keys(tmp_path)
    short = write_keys(tmp_path, "short", ec.SECP256K1())
    edwards = tmp_path / "edwards.pem"
    edwards.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    for path, expected in {
        tmp_path / "none.pem": r"none.pem: cannot be read \(No such file",
        files.public: "not a private key in PEM; `openssl ecparam",
        short.private: "a key of the curve secp256k1; expected an elliptic curve, secp256r1, ",
        edwards: "a key of the kind Ed25519PrivateKey; expected an elliptic curve",
    }.items():
        with pytest.raises(ConfigError, match=expected):
            read_private_key(path)
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    for path, expected in {
        files.private: "a private key; expected a public key, as `openssl ec",
        tmp_path: "cannot be read",
        damaged: "damaged.pem: not a public key in PEM",
        short.public: "a key of the curve secp256k1",
    }.items():
        with pytest.raises(ConfigError, match=expected):
            read_public_keys([path])


def test_a_private_key_is_not_shown(tmp_path: pathlib.Path) -> None:
    assert repr(read_private_key(write_keys(tmp_path).private)) == "PrivateKey()"
