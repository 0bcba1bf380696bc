"""`models.config`: the models of a server, the versions it loads, and their labels.

The file is a `ModelServerConfig` as text. Every model has the policy `specific`, with the latest
version and the labelled versions. Functions change copies of a config, and keep everything else
that was written into it by hand.
"""

import copy
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import (
    ModelConfig,
    ModelConfigList,
    ModelServerConfig,
)

from ..errors import ConfigError
from ..tree.files import open_file
from ..tree.paths import MODELS_CONFIG

STABLE = "stable"
CANARY = "canary"
PREVIOUS = "previous"
"""The version that was stable before. It stays loaded, so that a rollback only moves a label."""

PLATFORM = "tensorflow"


def models_config_path(publish_to: str) -> pathlib.Path:
    """The path of a published tree's config."""
    return pathlib.Path(publish_to) / MODELS_CONFIG


def read_models_config(path: pathlib.Path) -> ModelServerConfig:
    """Reads a config; an empty one where there is no file.

    Raises:
        ConfigError: the file is not a config, or not one that can be edited here.
    """
    try:
        with open_file(path) as file:
            return parse_models_config(file.read(), str(path))
    except FileNotFoundError:
        return ModelServerConfig(model_config_list=ModelConfigList())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


def parse_models_config(content: bytes, path: str) -> ModelServerConfig:
    """Parses the content of a file.

    Args:
        content: the content.
        path: the file, for error messages.

    Raises:
        ConfigError: as `read_models_config`.
    """
    config = ModelServerConfig()
    try:
        text_format.Parse(content.decode(), config)
    except (UnicodeDecodeError, text_format.ParseError) as error:
        raise ConfigError(
            f"{path}: {' '.join(str(error).split())}; expected a ModelServerConfig as text"
        ) from None
    if config.WhichOneof("config") != "model_config_list":
        raise ConfigError(f"{path}: no model_config_list; expected one")
    for model in config.model_config_list.config:
        policy = model.model_version_policy.WhichOneof("policy_choice")
        if policy != "specific":
            raise ConfigError(
                f"{path}: the version policy of {model.name} is {policy}; expected specific"
            )
    return config


def as_text(config: ModelServerConfig) -> str:
    """A config as text."""
    text: str = text_format.MessageToString(config)
    return text


def find_model(config: ModelServerConfig, name: str) -> ModelConfig:
    """A model's entry.

    Raises:
        ConfigError: the config has no such model.
    """
    for model in config.model_config_list.config:
        if model.name == name:
            return model
    names = ", ".join(model.name for model in config.model_config_list.config)
    raise ConfigError(f"models.config has no model {name!r}; it has {names or 'none'}")


def versions_of(model: ModelConfig) -> list[int]:
    """The versions for servers to load."""
    return list(model.model_version_policy.specific.versions)


def labels_of(model: ModelConfig) -> dict[str, int]:
    """Label -> version, sorted."""
    return dict(sorted(model.version_labels.items()))


def set_versions(model: ModelConfig, versions: Sequence[int]) -> None:
    """Sets the versions for servers to load."""
    del model.model_version_policy.specific.versions[:]
    model.model_version_policy.specific.versions.extend(sorted(set(versions)))


def set_labels(model: ModelConfig, labels: Mapping[str, int]) -> None:
    """Sets all labels."""
    model.version_labels.clear()
    for label, version in labels.items():
        model.version_labels[label] = version


def add_versions(
    config: ModelServerConfig, versions: Mapping[str, Iterable[int]]
) -> ModelServerConfig:
    """A copy of a config with more versions to load.

    Args:
        config: the config.
        versions: model -> the versions to add.
    """
    updated = copy.deepcopy(config)
    for model in updated.model_config_list.config:
        set_versions(model, [*versions_of(model), *versions.get(model.name, ())])
    return updated


def remove_versions(
    config: ModelServerConfig, model: str, versions: Collection[int]
) -> ModelServerConfig:
    """A copy of a config without these versions of a model, except those that have a label."""
    updated = copy.deepcopy(config)
    entry = find_model(updated, model)
    kept = [version for version in versions_of(entry) if version not in versions]
    set_versions(entry, [*kept, *labels_of(entry).values()])
    return updated


def add_published(
    config: ModelServerConfig, published: Mapping[str, Sequence[int]], root: str
) -> ModelServerConfig:
    """A copy of a config with every published model, in the order of their names.

    Existing labels stay: a server refuses a config that moves one to a version that it has not
    loaded. The labels of a new model name its latest version.

    Args:
        config: the config.
        published: model -> its versions.
        root: absolute path or URI of the directory of the base paths, as the server sees it.

    Raises:
        ConfigError: `root` is not absolute, or a label names a version that is not published.
    """
    if not (root.startswith("/") or "://" in root):
        raise ConfigError(f"base path {root!r}; expected an absolute path or a URI")
    before = {model.name: model for model in config.model_config_list.config}
    updated = copy.deepcopy(config)
    del updated.model_config_list.config[:]
    updated.model_config_list.SetInParent()
    for name in sorted(name for name, versions in published.items() if versions):
        model = updated.model_config_list.config.add()
        latest = max(published[name])
        if name in before:
            model.CopyFrom(before[name])
        else:
            model.name, model.model_platform = name, PLATFORM
            set_labels(model, {STABLE: latest, CANARY: latest})
        model.base_path = f"{root.rstrip('/')}/{name}"
        for label, version in labels_of(model).items():
            if version not in published[name]:
                raise ConfigError(
                    f"models.config: label {label} of {name} names version {version}, which is "
                    f"not published; move it with: python -m serving_configs label --model {name} "
                    f"--label {label} --version {latest}"
                )
        set_versions(model, [latest, *labels_of(model).values()])
    return updated


def config_problems(
    config: ModelServerConfig, published: Mapping[str, Collection[int]], roots: Collection[str]
) -> list[str]:
    """What in a config leads elsewhere than to what is published, a line for each.

    Args:
        config: the config.
        published: model -> its versions.
        roots: the directories of base paths, as servers see them, that are the tree's; where there
            are none, the models only have to have the same.
    """
    problems = []
    allowed = sorted(roots) or [root_of(config) or ""]
    for model in config.model_config_list.config:
        expected = [f"{root}/{model.name}" for root in allowed]
        if model.base_path.rstrip("/") not in expected:
            problems.append(
                f"the base path of {model.name} is {model.base_path}; expected "
                f"{' or '.join(expected)}"
            )
        named = [(f"{model.name} loads", version) for version in versions_of(model)]
        named += [
            (f"label {label} of {model.name} names", v) for label, v in labels_of(model).items()
        ]
        for name, version in named:
            if version not in published.get(model.name, ()):
                problems.append(f"{name} version {version}, which is not published")
    return problems


def root_of(config: ModelServerConfig) -> str | None:
    """The directory of the base paths, from the first model's; None without models."""
    for model in config.model_config_list.config:
        root: str = model.base_path.rstrip("/").rpartition("/")[0]
        return root
    return None


def named_versions(config: ModelServerConfig) -> dict[str, set[int]]:
    """Model -> the versions that a config names, to load or by a label."""
    return {
        model.name: {*versions_of(model), *labels_of(model).values()}
        for model in config.model_config_list.config
    }
