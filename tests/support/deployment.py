"""Two models with all their deployment files, as YAML says them."""

import dataclasses
import pathlib
from typing import Any

import yaml
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving_configs.server.deployment import (
    compose_file,
    kserve_manifests,
    kubernetes_manifests,
)
from serving_configs.server.models_config import add_published
from serving_configs.tree.latency import LatencyProfile
from serving_configs.tree.manifest import Weights
from serving_configs.tree.published import PublishedModel
from signatures import Geometry

KUBERNETES = "1.30"
"""The version whose schemas the manifests are held to."""


def model(name: str = "cait_m48_448", measured: LatencyProfile | None = None) -> PublishedModel:
    return PublishedModel(
        directory=pathlib.Path("/published") / name / "1",
        model=name,
        version=1,
        variant=name.removesuffix("_fe"),
        head="features" if name.endswith("_fe") else "classifier",
        geometry=Geometry(448, 784, 16, 768, 1000, 48, 2),
        parameters=356_460_520,
        checkpoint=Weights("a file", "0" * 64, trained=True),
        contract="0" * 64,
        software={},
        files=(),
        measured=dataclasses.asdict(measured) if measured else None,
    )


MODELS = [model(), model("cait_m48_448_fe", LatencyProfile(0.1, 8, 0.2, 64 * 2**20))]
CONFIG = add_published(ModelServerConfig(), {m.model: [1] for m in MODELS}, "/published")


def compose(batching: bool = False) -> dict[str, Any]:
    text = compose_file(MODELS, {m.model: 1 for m in MODELS}, "/published", batching)
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def kubernetes(
    of: PublishedModel, batching: bool = False, config: ModelServerConfig = CONFIG
) -> dict[str, Any]:
    return _by_kind(kubernetes_manifests(of, config, batching), 4)


def container(documents: dict[str, Any]) -> dict[str, Any]:
    (found,) = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def kserve(
    of: PublishedModel, batching: bool = False, config: ModelServerConfig = CONFIG
) -> dict[str, Any]:
    return _by_kind(kserve_manifests(of, config, batching), 2)


def _by_kind(manifests: str, number: int) -> dict[str, Any]:
    documents = list(yaml.safe_load_all(manifests))
    assert len(documents) == number
    return {document["kind"]: document for document in documents}
