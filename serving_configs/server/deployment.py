"""Deployment files for the official image of TF Serving: docker compose, Kubernetes and KServe.

They are rendered from templates and from the latency and memory of the models.
"""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from ..rendering import render
from ..tree.atomic import write_atomically
from ..tree.paths import BATCHING_PARAMETERS, DEPLOYMENT, MODELS_CONFIG, MONITORING_CONFIG
from ..tree.published import PublishedModel
from ..tree.settings import KeptSettings
from .batching import batching_for, common_parameters
from .environment import SERVER_ENVIRONMENT
from .memory import server_memory
from .models_config import STABLE, as_text, find_model, root_of, versions_of
from .monitoring import METRICS_PATH, MONITORING_TEXT

IMAGE = "tensorflow/serving:2.20.0"
CLAIM = "cait-models"
"""The claim with the published tree's `serving` directory."""

_WRITER_IMAGE = "busybox:1.37"
# Room for later versions of the models.
_VERSIONS = 4

MODELS_ROOT = "/models"
"""The directory of the base paths in a pod."""

KSERVE_ROOT = "/mnt/models"
"""The base path in a pod of KServe, which puts there what an InferenceService names."""

_PORTS = ("--port=8500", "--rest_api_port=8501")

POLL_SECONDS = 30
"""How often the server of docker compose polls its config, and every server its base paths."""

_MIB = 2**20

ONE_THREAD_AN_OPERATION = "--tensorflow_intra_op_parallelism=1"
"""For a pod, which requests two processors. Most of the time a model can run two operations in
parallel, and one thread for each is faster than two threads for both. By default TensorFlow shares
an operation among as many threads as the node has processors."""


def deployment_root(publish_to: str) -> pathlib.Path:
    """The directory of the deployment files."""
    return pathlib.Path(publish_to) / DEPLOYMENT


def compose_file(
    models: Iterable[PublishedModel],
    versions: Mapping[str, int],
    root: str,
    batching: bool = False,
) -> str:
    """`docker-compose.yaml`: one server with every model, over the tree's `serving` directory.

    Args:
        models: the latest version of each.
        versions: model -> how many versions are loaded.
        root: directory of the base paths in models.config. The tree is mounted there, unless it is
            a URL, which the server reads itself.
        batching: whether the server joins requests to batches.
    """
    ordered = sorted(models, key=lambda model: model.model)
    # One version more: a new one loads beside the old ones.
    memory = server_memory([(m, versions[m.model] + 1) for m in ordered])
    return render(
        "docker-compose.yaml.j2",
        image=IMAGE,
        root=root,
        models=[model.model for model in ordered],
        memory_mib=-(-memory // _MIB),
        poll_seconds=POLL_SECONDS,
        batching=batching,
        environment=SERVER_ENVIRONMENT,
        flags=(
            *_PORTS,
            *_flags(root, batching),
            f"--model_config_file_poll_wait_seconds={POLL_SECONDS}",
        ),
    )


def kubernetes_manifests(
    model: PublishedModel, config: ModelServerConfig, batching: bool = False
) -> str:
    """One model's ConfigMap, Deployment, Service and HorizontalPodAutoscaler.

    Args:
        model: its latest version.
        config: the tree's. The pod's config has only this model, under `MODELS_ROOT` or under the
            URL in `config`.
        batching: whether the server joins requests to batches.
    """
    root = root_of(config) or MODELS_ROOT
    if "://" not in root:
        root = MODELS_ROOT
    values = _of_pod(model, config, f"{root}/{model.model}", batching)
    return render(
        "kubernetes.yaml.j2",
        **values,
        claim=CLAIM,
        root=root,
        flags=(*_PORTS, *_flags("/config", batching), ONE_THREAD_AN_OPERATION),
    )


def kserve_manifests(
    model: PublishedModel, config: ModelServerConfig, batching: bool = False
) -> str:
    """One model's ConfigMap and InferenceService, for KServe's own runtime for TensorFlow.

    The runtime's flags come first. They name the ports, and a model that the config file replaces.

    Args:
        model: its latest version.
        config: the tree's. The pod's config has only this model, at `KSERVE_ROOT`. KServe mounts
            the claim there, or copies what is below the URL in `config`.
        batching: whether the server joins requests to batches.
    """
    root = root_of(config) or MODELS_ROOT
    return render(
        "kserve.yaml.j2",
        **_of_pod(model, config, KSERVE_ROOT, batching),
        source=f"{root if '://' in root else f'pvc://{CLAIM}'}/{model.model}",
        flags=(*_flags("/config", batching), ONE_THREAD_AN_OPERATION),
    )


def _of_pod(
    model: PublishedModel, config: ModelServerConfig, base_path: str, batching: bool
) -> dict[str, Any]:
    """What the templates of pods have in common: names, the config's files, and memory."""
    entry = find_model(config, model.model)
    own = ModelServerConfig()
    own.model_config_list.config.add().CopyFrom(entry)
    own.model_config_list.config[0].base_path = base_path
    # The config of a pod never changes, so it loads no further version.
    memory = server_memory([(model, len(versions_of(entry)))])
    files = {_name(MODELS_CONFIG): as_text(own), _name(MONITORING_CONFIG): MONITORING_TEXT}
    if batching:
        files[_name(BATCHING_PARAMETERS)] = common_parameters(
            [batching_for(model.latency_profile)] if model.latency_profile else []
        )
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    name = model.model.replace("_", "-")
    return {
        "image": IMAGE,
        "environment": SERVER_ENVIRONMENT,
        "name": name,
        "config_map": f"{name}-{digest[:10]}",
        "digest": digest,
        "model": model.model,
        "stable": STABLE,
        "files": files,
        "metrics_path": METRICS_PATH,
        "memory_mib": -(-memory // _MIB),
    }


def kubernetes_claim(models: Iterable[PublishedModel], storage_class: str | None = None) -> str:
    """The claim of all models and a pod that fills it.

    Args:
        models: the latest version of each model.
        storage_class: see `KeptSettings`.
    """
    size = sum(record.size for model in models for record in model.files)
    return render(
        "kubernetes_claim.yaml.j2",
        claim=CLAIM,
        storage_class=storage_class,
        gib=max(-(-_VERSIONS * size // 2**30), 1),
        image=_WRITER_IMAGE,
        root=MODELS_ROOT,
    )


def kubernetes_name(model: str) -> str:
    """Path of a model's manifests under `deployment_root`."""
    return f"kubernetes/{model}.yaml"


def kserve_name(model: str) -> str:
    """Path of a model's manifests for KServe under `deployment_root`."""
    return f"kserve/{model}.yaml"


def withdrawn_name(model: str) -> str:
    """Path under `deployment_root` of manifests from earlier versions, which are removed.

    They switched XLA on without `--xla_cpu_compilation_enabled=true`, so that no version with
    warm-up requests loaded.
    """
    return f"kubernetes-xla/{model}.yaml"


def write_deployment(
    publish_to: str,
    config: ModelServerConfig,
    latest: Sequence[PublishedModel],
    settings: KeptSettings,
) -> None:
    """Writes the deployment files, which include the config, and removes withdrawn ones.

    Args:
        publish_to: root of the published tree.
        config: its models.config.
        latest: the latest version of each model.
        settings: of the tree.

    Raises:
        OSError: a file cannot be written or removed.
    """
    root, batching = deployment_root(publish_to), settings.batching
    loaded = {m.name: len(versions_of(m)) for m in config.model_config_list.config}
    base = root_of(config)
    assert base is not None
    write_atomically(root / "docker-compose.yaml", compose_file(latest, loaded, base, batching))
    for model in latest:
        manifests = kubernetes_manifests(model, config, batching)
        write_atomically(root / kubernetes_name(model.model), manifests)
        inference_service = kserve_manifests(model, config, batching)
        write_atomically(root / kserve_name(model.model), inference_service)
    claim = kubernetes_claim(latest, settings.storage_class)
    write_atomically(root / "kubernetes-claim.yaml", claim)
    for model_name in loaded:
        withdrawn = root / withdrawn_name(model_name)
        withdrawn.unlink(missing_ok=True)
        # A directory with files from elsewhere stays.
        with contextlib.suppress(OSError):
            withdrawn.parent.rmdir()


def _flags(config: str, batching: bool) -> Sequence[str]:
    """The flags of tensorflow_model_server; `config` is the directory of the configs."""
    flags = (
        f"--model_config_file={config}/{_name(MODELS_CONFIG)}",
        # A starting server accepts labels of versions that it has not loaded.
        "--allow_version_labels_for_unavailable_models=true",
        f"--file_system_poll_wait_seconds={POLL_SECONDS}",
        f"--monitoring_config_file={config}/{_name(MONITORING_CONFIG)}",
    )
    if not batching:
        return flags
    return (
        *flags,
        "--enable_batching=true",
        f"--batching_parameters_file={config}/{_name(BATCHING_PARAMETERS)}",
        "--enable_per_model_batching_parameters=true",
    )


def _name(path: str) -> str:
    return pathlib.PurePosixPath(path).name
