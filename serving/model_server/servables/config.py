"""Which models a server serves: reading and checking a `ModelServerConfig`.

Source: `server_core.cc` and `server.cc` of tensorflow/serving's model_servers.
"""

import re
from collections.abc import Iterable, Mapping

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving_configs.server.models_config import PLATFORM

from ...errors import failed_precondition, invalid_argument
from ...text_proto import read_text_proto

_MODEL_TYPE_TENSORFLOW = 1
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9.]*://")


def models_config(base_paths: Mapping[str, str]) -> ModelServerConfig:
    """A config that serves the latest version of each model.

    Args:
        base_paths: name of a model -> its base path.
    """
    config = ModelServerConfig()
    for name, base_path in base_paths.items():
        config.model_config_list.config.add(name=name, base_path=base_path, model_platform=PLATFORM)
    return config


def read_config(path: str) -> ModelServerConfig:
    """The config of a text file.

    Raises:
        ServingError: the file does not exist or is not a `ModelServerConfig`.
    """
    return read_text_proto(path, ModelServerConfig())


def check_config(new: ModelServerConfig, old: ModelServerConfig | None) -> None:
    """Checks whether a server may change from one config to another; `old` is None at the start.

    Raises:
        ServingError: the reason why not.
    """
    if new.WhichOneof("config") != "model_config_list":
        raise failed_precondition(
            "Cannot transition to requested config. It is only legal to transition from one "
            "ModelConfigList to another."
        )
    # The real server makes each check for all models before the next check.
    models = new.model_config_list.config
    _check_names(models)
    _check_base_paths(models)
    _check_platforms(models, old.model_config_list.config if old else ())
    for model in models:
        if _SCHEME.match(model.base_path):
            raise invalid_argument(
                f"Model {model.name}: this server reads local directories only, "
                f"not {model.base_path}"
            )


def _check_names(models: Iterable[ModelConfig]) -> None:
    names = set()
    for model in models:
        if model.name in names:
            raise invalid_argument(
                f"Illegal to list model {model.name} multiple times in config list"
            )
        names.add(model.name)


def _check_base_paths(models: Iterable[ModelConfig]) -> None:
    for model in models:
        if not (model.base_path.startswith("/") or _SCHEME.match(model.base_path)):
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; "
                f"got base_path()={model.base_path}"
            )


def _check_platforms(models: Iterable[ModelConfig], old: Iterable[ModelConfig]) -> None:
    before = {model.name: _platform(model) for model in old}
    for model in models:
        platform = _platform(model)
        if before.get(model.name, platform) != platform:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {model.name} platform was "
                f"{before[model.name]} and new platform requested is {platform}"
            )
    for model in models:
        if _platform(model) != PLATFORM:
            raise invalid_argument(
                f"Model {model.name} requests unsupported platform {_platform(model)}"
            )


def _platform(model: ModelConfig) -> str:
    """The platform of a model, from `model_platform` or the deprecated `model_type`."""
    if not model.model_type:
        if not model.model_platform:
            raise invalid_argument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform."
            )
        platform: str = model.model_platform
        return platform
    if model.model_platform:
        raise invalid_argument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform."
        )
    if model.model_type != _MODEL_TYPE_TENSORFLOW:
        raise invalid_argument(
            f"ModelServerConfig::model_type choice {model.model_type} not supported."
        )
    return PLATFORM
