"""Deployment files for the official image of TF Serving: docker compose and Kubernetes.

All are rendered from templates, and from what was measured of the models.
"""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from ..errors import ConfigError
from ..rendering import render
from ..tree.atomic import write_atomically
from ..tree.published import PublishedModel
from .batching import batching_for, common_parameters
from .memory import server_memory
from .models_config import STABLE, as_text, find_model, root_of, versions_of
from .monitoring import METRICS_PATH, MONITORING_CONFIG

IMAGE = "tensorflow/serving:2.20.0"
MODELS_ROOT = "/models"
"""Where a pod finds the base paths."""

POLL_SECONDS = 30
"""How often a server of docker compose looks for another config, and every server for versions."""

SETTINGS = "settings.json"
"""Beside the deployment files: what `serving_configs write` was told, for whoever writes next."""

_MIB = 2**20

ONE_THREAD_AN_OPERATION = "--tensorflow_intra_op_parallelism=1"
"""For a pod, which asks for two processors. A model has two operations to run at most times, and
a thread for each is faster than both sharing each. Left to itself, TensorFlow shares an operation
among as many threads as the node has processors."""


def deployment_root(publish_to: str) -> pathlib.Path:
    """The directory of the deployment files."""
    return pathlib.Path(publish_to) / "deployment"


def read_batching(publish_to: str) -> bool:
    """Whether the deployment files of a tree have servers join requests to batches.

    Raises:
        ConfigError: the file that says so cannot be read.
    """
    path = deployment_root(publish_to) / SETTINGS
    try:
        settings = json.loads(path.read_bytes())
        batching = settings["batching"]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError, KeyError):
        batching = None
    if not isinstance(batching, bool):
        raise ConfigError(
            f"{path}: expected {settings_text(False).strip()} or {settings_text(True).strip()}; "
            "write it with: python -m serving_configs write --batching or --no-batching"
        )
    return batching


def settings_text(batching: bool) -> str:
    """The text of the file that keeps the choice of batching between runs."""
    return json.dumps({"batching": batching}) + "\n"


def compose_file(
    models: Iterable[PublishedModel],
    versions: Mapping[str, int],
    root: str,
    batching: bool = False,
) -> str:
    """`docker-compose.yaml`: one server with every model, over the tree's `serving` directory.

    Args:
        models: the latest version of each.
        versions: model -> how many versions of it are loaded.
        root: directory of the base paths, as models.config has it; the tree is mounted there,
            unless it is a URL that the server reads itself.
        batching: whether the server joins requests to batches.
    """
    ordered = sorted(models, key=lambda model: model.model)
    # One more version than are served: a new one is loaded beside the old.
    memory = server_memory([(m, versions[m.model] + 1) for m in ordered])
    return render(
        "docker-compose.yaml.j2",
        image=IMAGE,
        root=root,
        models=[model.model for model in ordered],
        memory_mib=-(-memory // _MIB),
        poll_seconds=POLL_SECONDS,
        batching=batching,
        flags=(
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
        config: of the tree; the pod's has this model alone, under `MODELS_ROOT` or where a URL
            in it says.
        batching: whether the server joins requests to batches.
    """
    entry = find_model(config, model.model)
    own = ModelServerConfig()
    own.model_config_list.config.add().CopyFrom(entry)
    root = root_of(config) or MODELS_ROOT
    if "://" not in root:
        root = MODELS_ROOT
        own.model_config_list.config[0].base_path = f"{root}/{model.model}"
    # A pod has one config for its life, so it loads no further version beside these.
    memory = server_memory([(model, len(versions_of(entry)))])
    files = {"models.config": as_text(own), "monitoring.config": MONITORING_CONFIG}
    if batching:
        files["batching_parameters.txt"] = common_parameters(
            [batching_for(model.measured)] if model.measured else []
        )
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    name = model.model.replace("_", "-")
    return render(
        "kubernetes.yaml.j2",
        image=IMAGE,
        name=name,
        config_map=f"{name}-{digest[:10]}",
        digest=digest,
        model=model.model,
        stable=STABLE,
        root=root,
        files=files,
        metrics_path=METRICS_PATH,
        memory_mib=-(-memory // _MIB),
        flags=(*_flags("/config", batching), ONE_THREAD_AN_OPERATION),
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


def write_deployment(
    publish_to: str, config: ModelServerConfig, latest: Sequence[PublishedModel], batching: bool
) -> None:
    """Writes the deployment files, which have the config in them, and removes withdrawn ones.

    Args:
        publish_to: root of the published tree.
        config: its models.config.
        latest: the latest version of each model.
        batching: whether servers are to join requests to batches.

    Raises:
        OSError: a file cannot be written or removed.
    """
    root = deployment_root(publish_to)
    loaded = {m.name: len(versions_of(m)) for m in config.model_config_list.config}
    base = root_of(config)
    assert base is not None
    write_atomically(root / "docker-compose.yaml", compose_file(latest, loaded, base, batching))
    for model in latest:
        manifests = kubernetes_manifests(model, config, batching)
        write_atomically(root / kubernetes_name(model.model), manifests)
    write_atomically(root / SETTINGS, settings_text(batching))
    for model_name in loaded:
        withdrawn = root / withdrawn_name(model_name)
        withdrawn.unlink(missing_ok=True)
        # What else somebody has put there stays, and so does the directory then.
        with contextlib.suppress(OSError):
            withdrawn.parent.rmdir()


def _flags(config: str, batching: bool) -> Sequence[str]:
    """Flags of tensorflow_model_server; `config` is the directory of the configs."""
    flags = (
        "--port=8500",
        "--rest_api_port=8501",
        f"--model_config_file={config}/models.config",
        # A server that starts takes a config whose labels name versions that it has yet to load.
        "--allow_version_labels_for_unavailable_models=true",
        f"--file_system_poll_wait_seconds={POLL_SECONDS}",
        f"--monitoring_config_file={config}/monitoring.config",
    )
    if not batching:
        return flags
    return (
        *flags,
        "--enable_batching=true",
        f"--batching_parameters_file={config}/batching_parameters.txt",
        "--enable_per_model_batching_parameters=true",
    )
