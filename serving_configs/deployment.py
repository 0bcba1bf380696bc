"""Deployment files for the official image of TF Serving: docker compose and Kubernetes.

All are rendered from templates, and from what was measured of the models.
"""

import pathlib
from collections.abc import Iterable, Mapping, Sequence

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from .batching import batching_for, common_parameters
from .models_config import STABLE, as_text, find_model, root_of
from .monitoring import METRICS_PATH, MONITORING_CONFIG
from .published import PublishedModel
from .rendering import render

IMAGE = "tensorflow/serving:2.20.0"
MODELS_ROOT = "/models"
"""Where a pod finds the base paths."""

POLL_SECONDS = 30
"""How often a server of docker compose looks for another config, and every server for versions."""

ONE_THREAD_AN_OPERATION = "--tensorflow_intra_op_parallelism=1"
"""For a pod, which asks for two processors. A model has two operations to run at most times, and
a thread for each is faster than both sharing each. Left to itself, TensorFlow shares an operation
among as many threads as the node has processors."""

# What a server needs without any model, and how much more than its size a model's weights take.
_BASE_MEMORY = 512 * 2**20
_WEIGHTS_FACTOR = 1.25
_MIB = 2**20


def deployment_root(publish_to: str) -> pathlib.Path:
    """The directory of the deployment files."""
    return pathlib.Path(publish_to) / "deployment"


def memory_of(model: PublishedModel, versions: int) -> int:
    """Bytes that serving a model takes: its weights by version, and one full batch.

    Args:
        model: its latest version.
        versions: versions that are loaded at a time.
    """
    weights = int(_WEIGHTS_FACTOR * 4 * model.parameters * versions)
    batch = 0
    if model.measured is not None:
        size = batching_for(model.measured).max_batch_size
        batch = size * model.measured.memory_per_image
    return weights + batch


def compose_file(models: Iterable[PublishedModel], versions: Mapping[str, int], root: str) -> str:
    """`docker-compose.yaml`: one server with every model, over the tree's `serving` directory.

    Args:
        models: the latest version of each.
        versions: model -> how many versions of it are loaded.
        root: directory of the base paths, as models.config has it; the tree is mounted there,
            unless it is a URL that the server reads itself.
    """
    ordered = sorted(models, key=lambda model: model.model)
    # One more version than are served: a new one is loaded beside the old.
    memory = _BASE_MEMORY + sum(memory_of(m, versions[m.model] + 1) for m in ordered)
    return render(
        "docker-compose.yaml.j2",
        image=IMAGE,
        root=root,
        models=[model.model for model in ordered],
        memory_mib=-(-memory // _MIB),
        flags=_flags(root),
    )


def kubernetes_manifests(model: PublishedModel, config: ModelServerConfig) -> str:
    """One model's ConfigMap, Deployment, Service and HorizontalPodAutoscaler.

    Args:
        model: its latest version.
        config: of the tree; the pod's has this model alone, under `MODELS_ROOT` or where a URL
            in it says.
    """
    entry = find_model(config, model.model)
    own = ModelServerConfig()
    own.model_config_list.config.add().CopyFrom(entry)
    root = root_of(config) or MODELS_ROOT
    if "://" not in root:
        root = MODELS_ROOT
        own.model_config_list.config[0].base_path = f"{root}/{model.model}"
    loaded = len(entry.model_version_policy.specific.versions)
    memory = _BASE_MEMORY + memory_of(model, loaded + 1)
    return render(
        "kubernetes.yaml.j2",
        image=IMAGE,
        name=model.model.replace("_", "-"),
        model=model.model,
        stable=STABLE,
        root=root,
        config=as_text(own),
        batching=common_parameters([batching_for(model.measured)] if model.measured else []),
        monitoring=MONITORING_CONFIG,
        metrics_path=METRICS_PATH,
        memory_mib=-(-memory // _MIB),
        flags=(*_flags("/config"), ONE_THREAD_AN_OPERATION),
    )


def kubernetes_name(model: str) -> str:
    """Path of a model's manifests under `deployment_root`."""
    return f"kubernetes/{model}.yaml"


def withdrawn_name(model: str) -> str:
    """Path under `deployment_root` of manifests that are no longer written, and are removed.

    They had XLA compile without `--xla_cpu_compilation_enabled=true`, so that a version with
    warm-up requests never loaded.
    """
    return f"kubernetes-xla/{model}.yaml"


def _flags(config: str) -> Sequence[str]:
    """Flags of tensorflow_model_server; `config` is the directory of the configs."""
    return (
        "--port=8500",
        "--rest_api_port=8501",
        f"--model_config_file={config}/models.config",
        "--model_config_file_poll_wait_seconds=30",
        # A server that starts takes a config whose labels name versions that it has yet to load.
        "--allow_version_labels_for_unavailable_models=true",
        "--file_system_poll_wait_seconds=30",
        "--enable_batching=true",
        f"--batching_parameters_file={config}/batching_parameters.txt",
        "--enable_per_model_batching_parameters=true",
        f"--monitoring_config_file={config}/monitoring.config",
    )
