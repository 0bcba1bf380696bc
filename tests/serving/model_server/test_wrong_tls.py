"""Files and configs for TLS that are wrong: one line each."""

import pathlib

import grpc
import pytest

from serving import Code, ServingError
from serving.client.command import main
from serving.model_server.flags import Options
from serving.model_server.server import ModelServer
from tests.support.pki import Pki


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ca", "none.pem"], "none.pem: No such file or directory"),
        (["--ca", "broken.pem"], "broken.pem: no certificates in PEM format"),
        (["--cert", "broken.pem"], "a client's certificate and its key are needed together"),
        (
            ["--cert", "cert.pem", "--key", "broken.pem"],
            "cert.pem, broken.pem: not a certificate and its private key in PEM format",
        ),
        (
            # A key, and another's.
            ["--cert", "cert.pem", "--key", "key.pem"],
            "cert.pem, key.pem: not a certificate and its private key in PEM format",
        ),
    ],
)
def test_files_of_a_client_that_are_wrong(
    flags: list[str],
    message: str,
    pki: Pki,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("broken.pem").write_text("-----BEGIN CERTIFICATE-----\nx\n")
    pathlib.Path("cert.pem").write_text(pki.text("authority_client_cert"))
    pathlib.Path("key.pem").write_text(pki.text("stranger_client_key"))
    assert main(["status", "--model", "m", "--tls", *flags]) == 2
    assert capsys.readouterr() == ("", f"client: {message}\n")


PAIR = "server_key and server_cert: not a private key and its certificate in PEM format"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"server_key": ""}, "server_key is empty; the PEM text itself goes there"),
        ({"server_cert": ""}, "server_cert is empty; the PEM text itself goes there"),
        ({"server_key": "/etc/key.pem"}, PAIR),
        ({"server_cert": "x"}, PAIR),
        ({"server_key": "stranger_server_key"}, PAIR),
        ({"custom_ca": "x"}, "custom_ca: no certificates in PEM format"),
        ({"client_verify": True}, "client_verify needs custom_ca, to verify clients by"),
    ],
)
def test_configs_that_are_wrong(
    fields: dict[str, str | bool], message: str, pki: Pki, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = {
        field: pki.text(value) if value in pki.files else value for field, value in fields.items()
    }
    config = pki.config("wrong", **texts)
    with pytest.raises(ServingError) as caught:
        ModelServer(Options(model_base_path="/m", port=0, ssl_config_file=config))
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert caught.value.message == f"{config}: {message}"
    # gRPC's own words for it are not beside it.
    assert capfd.readouterr() == ("", "")


def test_config_files_that_cannot_be_read(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("none", None), ("broken", "server_key {")):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(ServingError, match=str(tmp_path / name)) as caught:
            ModelServer(Options(model_base_path="/m", port=0, ssl_config_file=str(tmp_path / name)))
        assert "\n" not in caught.value.message


def test_nobody_but_grpc_checks_the_pair() -> None:
    """So that the day that gRPC takes anything here is noticed: then `_taken` says nothing."""
    server = grpc.server(None)
    with pytest.raises(RuntimeError):
        server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(b"x", b"x")]))
