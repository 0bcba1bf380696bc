"""The clients against a server over a socket, by the tiny CaiT and the half-plus-two models."""

import asyncio
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from serving import Code
from serving.client import Client, ClientError
from serving.client.asynchronous import AsyncClient
from signatures import Head
from tests.support.model_server import Running, publish, running
from tests.support.paths import REPOSITORY
from tests.support.requests import images

Serve = Callable[..., dict[str, Any]]


@pytest.fixture
def client(served: Running) -> Iterator[Client]:
    with Client(f"localhost:{served.port}", "cait") as client:
        yield client


@pytest.fixture
def photo(data: pathlib.Path) -> pathlib.Path:
    return data / "photos" / "cat.jpg"


@pytest.mark.slow
def test_predict_takes_arrays_and_gives_all_outputs(
    client: Client, tiny_served: dict[Head, Serve]
) -> None:
    batch = images(2)
    expected = tiny_served["classifier"]("class_attention", images=batch)
    found = client.predict({"images": batch}, "class_attention")
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], atol=1e-5)
    # Images alone are the input of that name, and an output can be had alone.
    assert client.predict(batch).keys() == {"logits"}
    assert client.predict(batch, "class_attention", ["logits"]).keys() == {"logits"}


def test_predict_takes_photos_in_every_form(client: Client, photo: pathlib.Path) -> None:
    data = photo.read_bytes()
    forms: list[Any] = [
        data,
        photo,
        str(photo),
        [data],
        (photo,),
        {"image_bytes": [data]},
        {"image_bytes": [photo]},
        {"image_bytes": data},
    ]
    replies = [client.predict(form, "bytes_logits")["probabilities"] for form in forms]
    assert replies[0].shape == (1, 10)
    for reply in replies[1:]:
        np.testing.assert_array_equal(reply, replies[0])
    mixed = client.predict([photo, data], "bytes_logits")["probabilities"]
    np.testing.assert_allclose(mixed, np.repeat(replies[0], 2, 0), atol=1e-6)


def test_classify(client: Client, photo: pathlib.Path) -> None:
    probabilities = client.predict(photo, "bytes_logits")["probabilities"][0]
    one, two = client.classify([photo, photo.read_bytes()])
    assert len(one) == 5
    assert [label.probability for label in one] == pytest.approx(
        sorted(probabilities, reverse=True)[:5], abs=1e-6
    )
    assert [label.label for label in one] == [label.label for label in two]


def test_no_images_are_not_sent(client: Client) -> None:
    with pytest.raises(ValueError, match="classify: no images; expected at least one"):
        client.classify([])


def test_class_attention_by_block(
    client: Client, tiny_served: dict[Head, Serve], photo: pathlib.Path
) -> None:
    batch = images(2)
    expected = tiny_served["classifier"]("class_attention", images=batch)
    found = client.class_attention(batch)
    assert list(found) == [0, 1]
    for block, array in found.items():
        assert array.shape == (2, 2, 1, 5)
        np.testing.assert_allclose(array, expected[f"ca_ffn_block_{block}_att"], atol=1e-5)
    assert not np.allclose(found[0], found[1])
    encoded = client.class_attention(photo)
    assert [array.shape for array in encoded.values()] == [(1, 2, 1, 5)] * 2


def test_an_error_of_the_graph_is_one_line_without_the_graph_s_names(client: Client) -> None:
    with pytest.raises(ClientError) as caught:
        client.self_attention(images(1), 23)
    assert (
        str(caught.value)
        == f"{caught.value.server}, model cait: INVALID_ARGUMENT: block must be 0 to 1"
    )
    assert "{{node " in caught.value.message


def test_self_attention_of_one_block_and_of_one_for_each(client: Client) -> None:
    batch = images(2)
    zero, one = (client.self_attention(batch, block=block) for block in (0, 1))
    assert zero.shape == (2, 2, 4, 4)
    assert not np.allclose(zero, one)
    each = client.self_attention(batch, block=[1, 0])
    np.testing.assert_allclose(each, [one[0], zero[1]], atol=1e-6)


def test_metadata_and_status(client: Client) -> None:
    found = client.metadata()
    assert (found.model, found.version) == ("cait", 1)
    assert "self_attention" in found.signatures
    assert not [name for name in found.signatures if name.startswith("__")]
    logits = found.signatures["logits"]
    assert logits.method == "tensorflow/serving/predict"
    assert (logits.inputs["images"].dtype, logits.outputs["logits"].dtype) == ("float", "float")
    assert logits.outputs["logits"].shape == (None, 10)
    (version,) = client.status()
    assert (version.version, version.state, version.error) == (1, "AVAILABLE", "")


def test_versions_and_labels(served: Running) -> None:
    address = f"localhost:{served.port}"
    inputs = {"x": np.array([2.0], np.float32)}
    with Client(address, "tf1", version=1) as one, Client(address, "tf1", label="stable") as two:
        assert one.predict(inputs)["y"] == two.predict(inputs)["y"] == [3.0]
    with Client(address, "tf1", version=7) as gone, pytest.raises(ClientError) as caught:
        gone.predict(inputs)
    assert caught.value.code == Code.NOT_FOUND
    assert str(caught.value) == (
        f"{address}, model tf1: NOT_FOUND: Servable not found for request: Specific(tf1, 7); the "
        "server has no such model or version, or is still loading it; the command status of "
        "serving.client lists a model's versions"
    )
    with Client(address, "tf1", label="x") as unknown, pytest.raises(ClientError) as caught:
        unknown.predict(inputs)
    assert str(caught.value) == (
        f"{address}, model tf1: INVALID_ARGUMENT: Unrecognized servable version label: x; a server "
        "knows the labels of its models.config, which --model_config_file gives it"
    )
    with pytest.raises(ValueError, match="a version or a label, not both"):
        Client(address, "tf1", version=1, label="stable")


@pytest.mark.slow
def test_a_feature_extractor_does_not_classify(
    tiny_models: dict[Head, pathlib.Path], photo: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "m").mkdir()
    publish(tmp_path / "m" / "1", tiny_models["features"])
    with running(model_name="m", model_base_path=str(tmp_path / "m")) as server:
        client = Client(f"localhost:{server.port}", "m")
        with client, pytest.raises(ClientError) as caught:
            client.classify(photo)
    assert caught.value.message == "No signature was found with the name: classify"
    assert str(caught.value).endswith("the name: classify; a feature extractor has no classes")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.predict(np.zeros((1, 32, 32, 3), np.uint8)), "images: uint8 of shape"),
        (lambda c: c.predict(np.zeros((32, 32, 3), np.float32)), "expected float32 .B, S, S, 3."),
        (lambda c: c.self_attention(b"jpeg", 0), "self_attention takes normalised images"),
        (lambda c: c.self_attention(images(2), [0, 1, 2]), "3 blocks for 2 images"),
        (lambda c: c.classify(images(2)), "classify: ndarray; expected the bytes or the path"),
        (
            lambda c: c.predict({"x": [object()]}),
            "x: neither a rectangular array",
        ),
    ],
)
def test_wrong_arguments_are_not_sent(
    client: Client, call: Callable[[Client], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(client)


def test_a_file_that_is_not_there(client: Client, tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        client.classify(tmp_path / "none.jpg")


def test_asyncio_has_the_same_calls(served: Running, photo: pathlib.Path, client: Client) -> None:
    batch = images(2)

    async def ask() -> tuple[Any, ...]:
        async with AsyncClient(f"localhost:{served.port}", "cait") as other:
            # All at a time, over one connection.
            return await asyncio.gather(
                other.predict(batch, "class_attention"),
                other.classify([photo, photo]),
                other.class_attention(batch),
                other.self_attention(batch, [1, 0]),
                other.metadata(),
                other.status(),
            )

    predicted, labels, class_attention, self_attention, metadata, status = asyncio.run(ask())
    np.testing.assert_allclose(predicted["logits"], client.predict(batch)["logits"], atol=1e-6)
    assert [label.label for label in labels[1]] == [
        label.label for label in client.classify(photo)[0]
    ]
    assert list(class_attention) == [0, 1]
    np.testing.assert_allclose(self_attention, client.self_attention(batch, [1, 0]), atol=1e-6)
    assert metadata == client.metadata()
    assert status == client.status()


def test_asyncio_has_the_same_methods_and_errors(served: Running) -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(AsyncClient) == public(Client)

    async def ask() -> None:
        async with AsyncClient(f"localhost:{served.port}", "none") as client:
            await client.status()

    with pytest.raises(ClientError) as caught:
        asyncio.run(ask())
    assert caught.value.code == Code.NOT_FOUND
    assert caught.value.message == "Could not find any versions of model none"


SMALLEST = """
import sys
from importlib.machinery import PathFinder

class Some(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[3].split(","):
            return None
        return super().find_spec(name, path, target)

sys.meta_path = [Some if finder is PathFinder else finder for finder in sys.meta_path]
from serving.client import Client
with Client(sys.argv[1], "cait", timeout=60) as client:
    ((best, *_),) = client.classify(sys.argv[2])
    print(best.label)
"""


@pytest.mark.slow
def test_the_smallest_install_of_the_documentation_is_enough(
    client: Client, served: Running, photo: pathlib.Path
) -> None:
    """What it leaves out of the project's dependencies is not there to be imported."""
    text = (REPOSITORY / "docs" / "clients.md").read_text()
    assert "pip install grpcio tensorflow-serving-api numpy pillow\n" in text
    missing = (
        *("apache_beam", "cryptography", "cyclonedx", "grpc_health", "grpc_reflection", "jinja2"),
        *("markdown", "prometheus_client", "pyarrow", "safetensors", "scipy", "starlette"),
        *("tf_keras", "threadpoolctl", "tqdm", "uvicorn"),
    )
    found = subprocess.run(
        [sys.executable, "-c", SMALLEST, f"localhost:{served.port}", str(photo), ",".join(missing)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    assert found.stdout == f"{client.classify(str(photo))[0][0].label}\n"
