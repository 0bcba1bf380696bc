"""The clients beside a bad image, their own or somebody else's, on servers that batch or do not."""

import asyncio
import contextlib
import pathlib
import types
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest

from serving.attention.models import AttentionError
from serving.attention.photograph import read_photograph
from serving.attention.served import served_model
from serving.client import Client, FailedImagesError, InvalidImagesError
from serving.client import calls as client_calls
from serving.client.asynchronous import AsyncClient
from serving.errors import Code
from tests.support.batching import NEVER, Batched, waiting
from tests.support.model_server import Running
from tests.support.requests import images, predict_request
from tests.support.waiting import until

pytestmark = pytest.mark.slow

Ask: TypeAlias = Callable[..., Any]
"""Makes a call of one of the clients: the name of the method, then its arguments."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets clients wait a tenth as long before they send an image again."""
    monkeypatch.setattr(client_calls, "LONGEST_WAIT", client_calls.LONGEST_WAIT / 10)


@pytest.fixture
def batched(tiny_models: dict[Any, pathlib.Path], tmp_path: pathlib.Path) -> Iterator[Batched]:
    with contextlib.ExitStack() as stack:
        yield Batched(tiny_models["classifier"], tmp_path, stack)


@pytest.fixture
def photo(data: pathlib.Path) -> pathlib.Path:
    return data / "photos" / "cat.jpg"


@pytest.fixture
def short(photo: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A photograph whose data ends too early: its header is whole."""
    short = tmp_path / "short.jpg"
    short.write_bytes(photo.read_bytes()[:20_000])
    return short


@pytest.fixture(params=["threads", "asyncio"])
def ask_of(request: pytest.FixtureRequest) -> Callable[..., Ask]:
    def of(server: Running, model: str = "m") -> Ask:
        address = f"localhost:{server.port}"

        def ask(method: str, *arguments: Any) -> Any:
            if request.param == "threads":
                with Client(address, model) as client:
                    return getattr(client, method)(*arguments)

            async def awaited() -> Any:
                async with AsyncClient(address, model) as client:
                    return await getattr(client, method)(*arguments)

            return asyncio.run(awaited())

        return ask

    return of


@pytest.fixture(scope="module", params=["batching", "no batching"])
def either(
    request: pytest.FixtureRequest,
    tiny_models: dict[Any, pathlib.Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Running, str]]:
    """A server of either kind, and the name of its model; no batch waits for another request."""
    if request.param == "no batching":
        yield request.getfixturevalue("served"), "cait"
        return
    root = tmp_path_factory.mktemp("either")
    with contextlib.ExitStack() as stack:
        yield start(Batched(tiny_models["classifier"], root, stack), 8, 0), "m"


def start(batched: Batched, *parameters: Any) -> Running:
    """A server whose batches are only the test's own."""
    return batched(*parameters, flags={"enable_model_warmup": False})


def other_client(server: Running, path: pathlib.Path) -> Any:
    """A call of a client that is not ours and sends whatever it has."""
    inputs = {"image_bytes": np.array([path.read_bytes()], object)}
    return server.predictions.Predict.future(predict_request("m", inputs, "bytes_logits"), 60)


@pytest.mark.parametrize("times", [1, client_calls.TRIES - 1])
def test_a_good_image_beside_anothers_bad_one_is_answered(
    batched: Batched,
    ask_of: Callable[..., Ask],
    photo: pathlib.Path,
    short: pathlib.Path,
    times: int,
) -> None:
    server = start(batched, 2, NEVER)
    with futures.ThreadPoolExecutor(1) as pool:
        others = other_client(server, short)
        until(lambda: waiting(server) == 1)
        found = pool.submit(ask_of(server), "predict", photo, "bytes_logits")
        for _ in range(1, times):
            assert others.exception().code() == grpc.StatusCode.INVALID_ARGUMENT
            # It is asked for again, and waits for a batch to be full.
            until(lambda: waiting(server) == 1)
            others = other_client(server, short)
        assert others.exception().code() == grpc.StatusCode.INVALID_ARGUMENT
        until(lambda: waiting(server) == 1)
        others = other_client(server, photo)
        np.testing.assert_allclose(
            found.result(60)["logits"][0], others.result().outputs["logits"].float_val, atol=1e-6
        )


def test_one_that_is_never_answered_is_blamed_after_some_tries(
    batched: Batched, ask_of: Callable[..., Ask], photo: pathlib.Path, short: pathlib.Path
) -> None:
    server = start(batched, 2, NEVER)
    with futures.ThreadPoolExecutor(1) as pool:
        found = pool.submit(ask_of(server), "predict", str(photo), "bytes_logits")
        for _ in range(client_calls.TRIES):
            until(lambda: waiting(server) == 1)
            assert other_client(server, short).exception() is not None
        with pytest.raises(FailedImagesError) as caught:
            found.result(60)
    assert not waiting(server)
    assert str(caught.value).startswith(
        f"localhost:{server.port}, model m: INVALID_ARGUMENT: images[0] ({photo}): "
    )
    assert "Invalid JPEG data" in caught.value.failures[0].message


def test_one_bad_image_of_several_is_named_and_the_others_answered(
    either: tuple[Running, str],
    ask_of: Callable[..., Ask],
    photo: pathlib.Path,
    short: pathlib.Path,
    data: pathlib.Path,
) -> None:
    ask = ask_of(*either)
    tall = data / "photos" / "portrait_tall.jpg"
    several = [photo, tall, short, tall.read_bytes(), short.read_bytes()]
    good = [photo, tall, tall]
    for method, arguments in (
        ("classify", ()),
        ("predict", ("bytes_logits",)),
        ("predict", ("bytes_logits", ["probabilities"])),
        ("class_attention", ()),
    ):
        with pytest.raises(FailedImagesError) as caught:
            ask(method, several, *arguments)
        error = caught.value
        assert (error.code, error.places) == (Code.INVALID_ARGUMENT, (0, 1, 3))
        assert list(error.failures) == [2, 4]
        assert f"images[2] ({short}): " in error.message
        assert "; images[4]: " in error.message
        assert "\n" not in str(error)
        expected = ask(method, good, *arguments)
        if method == "classify":
            assert [[label.label for label in labels] for labels in error.answers] == [
                [label.label for label in labels] for labels in expected
            ]
        else:
            assert error.answers.keys() == expected.keys()
            for name, array in error.answers.items():
                np.testing.assert_allclose(array, expected[name], atol=1e-6)


def test_images_by_name_are_told_apart_as_well(
    either: tuple[Running, str],
    ask_of: Callable[..., Ask],
    photo: pathlib.Path,
    short: pathlib.Path,
) -> None:
    ask = ask_of(*either)
    both = [photo.read_bytes(), short.read_bytes()]
    for value in (both, tuple(both), np.array(both, object), [photo, short], [str(photo), short]):
        with pytest.raises(FailedImagesError) as caught:
            ask("predict", {"image_bytes": value}, "bytes_logits")
        assert list(caught.value.failures) == [1]
        assert caught.value.answers["logits"].shape == (1, 10)


def test_what_no_model_takes_is_not_sent(
    ask_of: Callable[..., Ask], photo: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    several = [photo, text, b"", b"GIF89a"]
    data = np.array([photo.read_bytes(), text.read_bytes(), *several[2:]], object)
    # Nobody answers there, which is never found out.
    ask = ask_of(types.SimpleNamespace(port=1))
    for method, *arguments in (
        ("classify", several),
        ("predict", several, "bytes_logits"),
        ("predict", {"image_bytes": several}, "bytes_features"),
        ("predict", {"image_bytes": data}, "bytes_logits"),
        ("class_attention", several),
    ):
        with pytest.raises(InvalidImagesError) as caught:
            ask(method, *arguments)
        assert isinstance(caught.value, ValueError)
        assert caught.value.reasons == {
            1: "a file that begins with b'no image'; expected a JPEG or PNG",
            2: "an empty file; expected a JPEG or PNG",
            3: "a GIF; expected a JPEG or PNG",
        }
        assert "images[2]: an empty file" in str(caught.value)
        given = arguments[0]["image_bytes"] if isinstance(arguments[0], dict) else arguments[0]
        assert (f"images[1] ({text}): a file" in str(caught.value)) == (given is several)


def test_a_good_block_beside_anothers_wrong_one_is_answered(
    batched: Batched, photo: pathlib.Path
) -> None:
    server = start(batched, 2, NEVER)

    def another(block: int) -> Any:
        inputs = {"images": images(1), "block": np.array([block], np.int32)}
        return server.predictions.Predict.future(predict_request("m", inputs, "self_attention"), 60)

    photograph = read_photograph(photo.read_bytes(), 32)
    with (
        served_model(f"localhost:{server.port}", "m") as model,
        futures.ThreadPoolExecutor(1) as pool,
    ):
        for tries in (2, client_calls.TRIES):
            found = pool.submit(model.self_attention, photograph, 1)
            for _ in range(tries - 1):
                until(lambda: waiting(server) == 1)
                assert "block must be 0 to 1" in another(-1).exception().details()
            until(lambda: waiting(server) == 1)
            assert another(0).exception() is None
            assert found.result(60).shape == (2, 4, 4)
        # Its own wrong one is not asked for again.
        found = pool.submit(model.self_attention, photograph, 2)
        until(lambda: waiting(server) == 1)
        assert another(0).exception() is not None
        with pytest.raises(AttentionError, match="block 2: 0 to 1"):
            found.result(60)
    assert not waiting(server)
