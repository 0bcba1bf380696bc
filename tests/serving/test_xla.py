"""A model on a server with the profile that has XLA compile what it can."""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from export.variants import CaiTConfig
from serving.client import Client
from serving.launch import server_process
from serving_configs.deployment import XLA_FLAGS
from signatures import Head, signatures_for
from signatures.contract import CLASSIFY_METHOD
from signatures.warmup import REQUESTS, write_warmup
from tests.serving import conftest

Serve = Callable[..., dict[str, Any]]

PHOTO = pathlib.Path(__file__).parents[1] / "data" / "photos" / "cat.jpg"


def test_every_signature_answers_as_without_xla(
    tiny_models: dict[Head, pathlib.Path],
    tiny_served: dict[Head, Serve],
    tiny_config: CaiTConfig,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = pathlib.Path(shutil.copytree(tiny_models["classifier"], tmp_path / "tiny" / "1"))
    (version / REQUESTS).parent.mkdir(exist_ok=True)
    # A request that fails would keep the version from being served.
    write_warmup(version / REQUESTS, "tiny", "classifier", tiny_config.geometry, (1, 2, 4))
    monkeypatch.setenv("TF_XLA_FLAGS", XLA_FLAGS)
    size = tiny_config.image_size
    generator = np.random.default_rng(0)
    images = generator.normal(size=(4, size, size, 3)).astype(np.float32)
    inputs: dict[str, Any] = {
        "images": images,
        "image_bytes": [PHOTO.read_bytes()] * 4,
        "block": np.int32([1, 0, 1, 0]),
    }
    flags = ("--model_name=tiny", f"--model_base_path={version.parent}")
    with (
        server_process(*flags, binary=conftest.server_binary) as server,
        Client(f"localhost:{server.port}", "tiny") as client,
    ):
        for signature in signatures_for("classifier", tiny_config.geometry).values():
            if signature.method == CLASSIFY_METHOD:
                continue
            of_signature = {tensor.name: inputs[tensor.name] for tensor in signature.inputs}
            wanted = tiny_served["classifier"](signature.name, **of_signature)
            found = client.predict(of_signature, signature.name)
            assert found.keys() == wanted.keys()
            for name, expected in wanted.items():
                np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-5)
        # Other blocks for the same images are other numbers of images in each block.
        for blocks in ([0, 0, 0, 0], [1, 1, 1, 0]):
            wanted = tiny_served["classifier"]("self_attention", images=images, block=blocks)
            attention = client.self_attention(images, blocks)
            np.testing.assert_allclose(attention, wanted["attention"], rtol=0, atol=1e-5)
        assert len(client.classify([PHOTO])) == 1
        assert "failed" not in server.log.read_text()
