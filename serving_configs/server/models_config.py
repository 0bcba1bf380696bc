"""`models.config`: the models of a server, the versions it loads, and their labels.

The file is the text of a `ModelServerConfig`. Every model has the policy `specific`, with the
latest version and those that a label names. It is edited in copies; whatever else was written into
it by hand is kept.
"""

import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from ..errors import ConfigError

STABLE = "stable"
CANARY = "canary"
PREVIOUS = "previous"
"""The version that was stable before; it stays loaded, so that going back is one label's move."""

PLATFORM = "tensorflow"

MODELS_CONFIG = "serving/models.config"
"""The config's path in a published tree."""


def models_config_path(publish_to: str) -> pathlib.Path:
    """Where the config of a published tree is."""
    return pathlib.Path(publish_to) / MODELS_CONFIG


def read_models_config(path: pathlib.Path) -> ModelServerConfig:
    """The config in a file; an empty one when there is no file.

    Raises:
        ConfigError: the file is no config, or none that can be edited here.
    """
    try:
        return parse_models_config(path.read_bytes(), str(path))
    except FileNotFoundError:
        config = ModelServerConfig()
        config.model_config_list.SetInParent()
        return config
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


def parse_models_config(content: bytes, path: str) -> ModelServerConfig:
    """The config in a file's content.

    Args:
        content: of the file.
        path: for the errors.

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
    """The text of a config."""
    text: str = text_format.MessageToString(config)
    return text


def find_model(config: ModelServerConfig, name: str) -> ModelConfig:
    """A model's entry.

    Raises:
        ConfigError: it has none.
    """
    for model in config.model_config_list.config:
        if model.name == name:
            return model
    names = ", ".join(model.name for model in config.model_config_list.config)
    raise ConfigError(f"models.config has no model {name!r}; it has {names or 'none'}")


def versions_of(model: ModelConfig) -> list[int]:
    """The versions that a server is to load."""
    return list(model.model_version_policy.specific.versions)


def labels_of(model: ModelConfig) -> dict[str, int]:
    """The labels and the versions that they name."""
    return dict(sorted(model.version_labels.items()))


def set_versions(model: ModelConfig, versions: Sequence[int]) -> None:
    """Sets the versions that a server is to load."""
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
    """A config that has servers load further versions.

    Args:
        config: the config so far.
        versions: model -> what to load too.
    """
    updated = ModelServerConfig()
    updated.CopyFrom(config)
    for model in updated.model_config_list.config:
        set_versions(model, [*versions_of(model), *versions.get(model.name, ())])
    return updated


def remove_versions(
    config: ModelServerConfig, model: str, versions: Collection[int]
) -> ModelServerConfig:
    """A config that has servers load versions of a model no longer, unless a label names them."""
    updated = ModelServerConfig()
    updated.CopyFrom(config)
    entry = find_model(updated, model)
    kept = [version for version in versions_of(entry) if version not in versions]
    set_versions(entry, [*kept, *labels_of(entry).values()])
    return updated


def with_published(
    config: ModelServerConfig, published: Mapping[str, Sequence[int]], root: str
) -> ModelServerConfig:
    """A config with every published model in it, by name.

    Labels that are there stay where they are: a server refuses a config that moves one to a
    version that it has yet to load. Of a model that is new all labels name the latest version.

    Args:
        config: the one so far.
        published: model -> its versions.
        root: absolute path or URI of the directory of the base paths, as the server sees it.

    Raises:
        ConfigError: `root` is not absolute, or a label names a version that is not published.
    """
    if not (root.startswith("/") or "://" in root):
        raise ConfigError(f"base path {root!r}; expected an absolute path or a URI")
    before = {model.name: model for model in config.model_config_list.config}
    updated = ModelServerConfig()
    updated.CopyFrom(config)
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


def root_of(config: ModelServerConfig) -> str | None:
    """The directory of the base paths, by the first model; None without models."""
    for model in config.model_config_list.config:
        root: str = model.base_path.rstrip("/").rpartition("/")[0]
        return root
    return None


def named_versions(config: ModelServerConfig) -> dict[str, set[int]]:
    """Model -> the versions that a config loads or labels."""
    return {
        model.name: {*versions_of(model), *labels_of(model).values()}
        for model in config.model_config_list.config
    }
