"""TLS over sockets: who is answered and who is not."""

import asyncio
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc

from serving import Code, ServingError
from serving.client import AsyncClient, Client, ClientError
from serving.client.channels import Tls
from serving.client.command import main
from serving.model_server.flags import Options
from serving.model_server.server import ModelServer
from signatures import Head
from tests.support.model_server import configured, one_model, publish, running
from tests.support.paths import REPOSITORY
from tests.support.pki import Pki
from tests.support.readme import blocks

INPUTS = {"x": np.array([2.0], np.float32)}


@pytest.fixture(scope="module")
def base(
    tmp_path_factory: pytest.TempPathFactory, half_plus: Callable[..., pathlib.Path]
) -> pathlib.Path:
    path = tmp_path_factory.mktemp("tls") / "m"
    path.mkdir()
    publish(path / "1", half_plus(2.0))
    return path


@pytest.fixture(scope="module")
def server(base: pathlib.Path, pki: Pki) -> Iterator[str]:
    """The address of a server that asks nobody for a certificate."""
    with running(
        model_name="m", model_base_path=str(base), ssl_config_file=pki.config("server")
    ) as server:
        yield f"localhost:{server.port}"


@pytest.fixture(scope="module")
def strict_server(base: pathlib.Path, pki: Pki) -> Iterator[str]:
    """The address of a server that does."""
    config = pki.config("strict", custom_ca=pki.text("authority_ca"), client_verify=True)
    with running(model_name="m", model_base_path=str(base), ssl_config_file=config) as server:
        yield f"localhost:{server.port}"


def answered(address: str, tls: Tls | None) -> bool:
    """Whether a client is; one that is not gets no further than the connection."""
    with Client(address, "m", tls=tls, timeout=30, retries=False) as client:
        try:
            return list(client.predict(INPUTS)["y"]) == [3.0]
        except ClientError as error:
            if error.code != Code.UNAVAILABLE:
                raise
            return False


def test_a_client_that_trusts_the_server_is_answered(server: str, pki: Pki) -> None:
    assert answered(server, pki.tls())
    # It is not asked for its certificate, so it does not matter whose that is.
    assert answered(server, pki.tls(client="stranger"))


def test_a_plain_client_and_one_that_trusts_another_are_not(server: str, pki: Pki) -> None:
    assert not answered(server, None)
    assert not answered(server, pki.tls("stranger"))
    # The authorities that gRPC brings have not signed it either.
    assert not answered(server, Tls())


def test_the_name_that_the_certificate_is_for(server: str, pki: Pki) -> None:
    ca = pki.files["authority_ca"]
    by_number = server.replace("localhost", "127.0.0.1")
    assert not answered(by_number, Tls(ca))
    assert answered(by_number, Tls(ca, server_name="localhost"))


def message(address: str, tls: Tls | None) -> str:
    """What a client that is not answered is told."""
    with (
        Client(address, "m", tls=tls, timeout=30, retries=False) as client,
        pytest.raises(ClientError) as caught,
    ):
        client.status()
    assert caught.value.code == Code.UNAVAILABLE
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_client_is_told_what_is_wrong_with_its_tls(
    server: str, strict_server: str, base: pathlib.Path, pki: Pki
) -> None:
    none = "the server has TLS and this client does not; expected tls=Tls(...), or --tls ("
    signed = f"; expected one that {pki.files['stranger_ca']} has signed ("
    asks = "as one does that wants another client's certificate; this"
    cert = pki.files["stranger_client_cert"]
    assert message(server, None).startswith(none)
    assert message(strict_server, None).startswith(none)
    assert signed in message(server, pki.tls("stranger"))
    own = "or that authority's certificate as Tls(ca=...), --ca ("
    assert own in message(server, Tls())
    by_number = server.replace("localhost", "127.0.0.1")
    assert "; expected one for 127.0.0.1, or Tls(server_name=...)" in message(by_number, pki.tls())
    assert f"{asks} client has none; expected --cert" in message(strict_server, pki.tls())
    stranger = message(strict_server, pki.tls(client="stranger"))
    assert f"{asks} is {cert}; expected --cert" in stranger
    with running(model_name="m", model_base_path=str(base)) as plain:
        gone = f"localhost:{plain.port}"
        found = message(gone, pki.tls())
    assert found.startswith("this client has TLS and the server does not; expected no tls, no -")
    # Where no server is, TLS is not the reason.
    assert "TLS and" not in message(gone, None)
    assert "TLS and" not in message(gone, pki.tls())


def test_a_client_for_asyncio_is_told_too(server: str) -> None:
    async def call() -> None:
        async with AsyncClient(server, "m", timeout=30, retries=False) as client:
            await client.status()

    with pytest.raises(ClientError, match="the server has TLS and this client does not"):
        asyncio.run(call())


def test_client_certificates_are_verified_where_asked_for(strict_server: str, pki: Pki) -> None:
    assert answered(strict_server, pki.tls(client="authority"))
    assert not answered(strict_server, pki.tls())
    assert not answered(strict_server, pki.tls(client="stranger"))
    assert not answered(strict_server, None)


def reloaded(address: str, tls: Tls, base: pathlib.Path) -> str:
    """The code of a call that loads a config, and its message."""
    options = [("grpc.ssl_target_name_override", "localhost")]
    with grpc.secure_channel(address, tls.credentials(), options) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        request = configured(f"config {{ model_config_list {{ {one_model(base)} }} }}")
        try:
            stub.HandleReloadConfigRequest(request, 30)
        except grpc.RpcError as error:
            failed: Any = error
            return f"{failed.code().name}: {failed.details()}"
        return "OK"


@pytest.mark.parametrize(
    ("names", "refusal"),
    [
        ("client@example.org", ""),
        ("another@example.org, client@example.org", ""),
        ("another@example.org", "--reload_clients does not name this certificate (client@"),
        ("", "this server verifies certificates, and --reload_clients names none"),
    ],
)
def test_only_clients_that_a_flag_names_replace_the_config(
    names: str, refusal: str, base: pathlib.Path, pki: Pki
) -> None:
    config = pki.config("reload", custom_ca=pki.text("authority_ca"), client_verify=True)
    with running(
        model_name="m", model_base_path=str(base), ssl_config_file=config, reload_clients=names
    ) as server:
        found = reloaded(f"127.0.0.1:{server.port}", pki.tls(client="authority"), base)
        assert answered(f"localhost:{server.port}", pki.tls(client="authority"))
    denied = "PERMISSION_DENIED: No config may be loaded by a call: "
    assert found.startswith(denied + refusal if refusal else "OK")


def test_without_verified_certificates_there_are_no_names(base: pathlib.Path, pki: Pki) -> None:
    for config in ("", pki.config("unverified")):
        with pytest.raises(ServingError, match=r"--reload_clients=a: no client shows a certif"):
            ModelServer(
                Options(
                    model_base_path=str(base), port=0, ssl_config_file=config, reload_clients="a"
                )
            )


def test_a_unix_socket_has_tls_as_well(
    base: pathlib.Path, pki: Pki, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "socket"
    with running(
        model_name="m",
        model_base_path=str(base),
        ssl_config_file=pki.config("socket"),
        grpc_socket_path=str(path),
    ):
        assert not answered(f"unix:{path}", None)
        assert answered(f"unix:{path}", Tls(pki.files["authority_ca"], server_name="localhost"))


@pytest.mark.slow
def test_the_flags_of_the_command(
    strict_server: str, pki: Pki, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["status", "--server", strict_server, "--model", "m"]
    ca = ["--tls", "--ca", str(pki.files["authority_ca"])]
    own = [
        *("--cert", str(pki.files["authority_client_cert"])),
        *("--key", str(pki.files["authority_client_key"])),
    ]
    assert main([*command, *ca, *own]) == 0
    assert capsys.readouterr() == ("1  AVAILABLE\n", "")
    assert main([*command, *ca, *own, "--tls_server_name", "elsewhere", "--timeout", "10"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"client: {strict_server}, model m: ")


@pytest.mark.slow
def test_the_snippet_of_the_documentation(
    pki: Pki,
    tiny_models: dict[Head, pathlib.Path],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (snippet,) = (text for text in blocks("python") if "Tls(" in text)
    base = tmp_path / "cait_xxs24_224"
    base.mkdir()
    publish(base / "1", tiny_models["classifier"])
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "c.jpg"):
        shutil.copyfile(REPOSITORY / "tests/data/photos/cat.jpg", tmp_path / "photos" / name)
    (tmp_path / "photos" / "b.jpg").write_text("no image")
    shutil.copyfile(pki.files["authority_ca"], tmp_path / "ca.pem")
    monkeypatch.chdir(tmp_path)
    with running(
        model_name=base.name, model_base_path=str(base), ssl_config_file=pki.config("snippet")
    ) as server:
        text = snippet.replace("models.example:8500", f"localhost:{server.port}")
        exec(text, {"__name__": "__main__"})
    invalid, *answers = capsys.readouterr().out.splitlines()
    assert invalid.startswith("images[1] (photos/b.jpg): ")
    assert [line.split()[0] for line in answers] == ["photos/a.jpg", "photos/c.jpg"]
    assert answers[0].split()[1] == answers[1].split()[1]
