"""models.config and what moving labels makes of it, against the real messages."""

import pathlib

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving_configs.errors import ConfigError
from serving_configs.rollout.labels import move_label, promote, rollback
from serving_configs.server.models_config import (
    add_published,
    as_text,
    find_model,
    labels_of,
    read_models_config,
    root_of,
    versions_of,
)


def config(**models: list[int]) -> ModelServerConfig:
    return add_published(ModelServerConfig(), models, "/models")


def state(of: ModelServerConfig, model: str = "m") -> tuple[list[int], dict[str, int]]:
    entry = find_model(of, model)
    return versions_of(entry), labels_of(entry)


def test_a_new_model_has_its_latest_version_under_both_labels() -> None:
    found = config(b=[1, 2, 11], a=[1])
    assert [model.name for model in found.model_config_list.config] == ["a", "b"]
    assert state(found, "b") == ([11], {"canary": 11, "stable": 11})
    entry = find_model(found, "b")
    assert (entry.base_path, entry.model_platform) == ("/models/b", "tensorflow")
    assert root_of(found) == "/models"


def test_text_is_read_back_and_the_same_every_time(tmp_path: pathlib.Path) -> None:
    found = config(m=[1, 2], n=[3])
    path = tmp_path / "models.config"
    path.write_text(as_text(found))
    assert read_models_config(path) == found
    assert as_text(read_models_config(path)) == as_text(found)
    assert text_format.Parse(path.read_text(), ModelServerConfig()) == found


def test_publishing_moves_no_label_that_is_in_use() -> None:
    first = config(m=[1])
    second = add_published(first, {"m": [1, 2], "n": [1]}, "/models")
    assert state(second) == ([1, 2], {"canary": 1, "stable": 1})
    third = add_published(second, {"m": [1, 2, 3]}, "/elsewhere/")
    assert state(third) == ([1, 3], {"canary": 1, "stable": 1})
    assert [model.name for model in third.model_config_list.config] == ["m"]
    assert find_model(third, "m").base_path == "/elsewhere/m"


def test_what_was_written_by_hand_is_kept() -> None:
    found = config(m=[1])
    find_model(found, "m").logging_config.sampling_config.sampling_rate = 0.5
    after = promote(add_published(found, {"m": [1, 2]}, "/models"), "m", 2, 2)
    assert find_model(after, "m").logging_config.sampling_config.sampling_rate == 0.5


def test_promote_remembers_and_rollback_goes_back_and_forth() -> None:
    published = add_published(config(m=[1]), {"m": [1, 2]}, "/models")
    canary = move_label(published, "m", "canary", 2, 2)
    assert state(canary) == ([1, 2], {"canary": 2, "stable": 1})
    promoted = promote(canary, "m", 2, 2)
    assert state(promoted) == ([1, 2], {"canary": 2, "previous": 1, "stable": 2})
    # Promoting once more changes nothing, above all not what is remembered.
    assert promote(promoted, "m", 2, 2) == promoted
    back = rollback(promoted, "m", None, 2)
    # What was stable stays loaded, and no label names it: it may be what a server could not load.
    assert state(back) == ([1, 2], {"canary": 1, "stable": 1})
    forth = rollback(back, "m", None, 2, left=2)
    assert state(forth) == ([1, 2], {"canary": 2, "stable": 2})
    assert state(rollback(forth, "m", None, 2, left=1)) == state(back)


def test_what_was_moved_goes_back_with_stable() -> None:
    """A server takes the config whole, so one label on what it can't load would stop it."""
    one = add_published(config(m=[1]), {"m": [1, 2, 3]}, "/models")
    promoted = promote(one, "m", 2, 3)
    for label, version in {"canary": 3, "next": 3, "legacy": 2}.items():
        promoted = move_label(promoted, "m", label, version, 3)
    back = rollback(promoted, "m", None, 3, moved={"next", "gone"})
    assert state(back) == ([1, 2, 3], {"canary": 1, "legacy": 2, "next": 1, "stable": 1})


def test_a_later_canary_stays_and_old_versions_are_dropped() -> None:
    one = add_published(config(m=[1]), {"m": [1, 2, 3]}, "/models")
    canary = move_label(one, "m", "canary", 3, 3)
    promoted = promote(canary, "m", 2, 3)
    assert state(promoted) == ([1, 2, 3], {"canary": 3, "previous": 1, "stable": 2})
    assert state(promote(promoted, "m", 3, 3)) == (
        [2, 3],
        {"canary": 3, "previous": 2, "stable": 3},
    )
    assert state(rollback(promoted, "m", 1, 3))[1]["stable"] == 1


def test_nothing_to_go_back_to_and_wrong_names_are_refused() -> None:
    found = config(m=[1])
    with pytest.raises(ConfigError, match="m has no label previous"):
        rollback(found, "m", None, 1)
    with pytest.raises(ConfigError, match=r"models\.config has no model 'x'; it has m"):
        promote(found, "x", 1, 1)
    with pytest.raises(ConfigError, match="empty label"):
        move_label(found, "m", "", 1, 1)
    with pytest.raises(ConfigError, match="expected an absolute path"):
        add_published(found, {"m": [1]}, "models")
    with pytest.raises(ConfigError, match="label canary of m names version 1, which is not"):
        add_published(found, {"m": [2]}, "/models")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list { config { nmae: 'm' } }", "expected a ModelServerConfig as text"),
        ("custom_model_config {}", "no model_config_list"),
        ("model_config_list { config { name: 'm' } }", "version policy of m is None"),
        (
            "model_config_list { config { name: 'm' model_version_policy { all {} } } }",
            "version policy of m is all; expected specific",
        ),
    ],
)
def test_a_file_that_cannot_be_edited_is_refused(
    tmp_path: pathlib.Path, text: str, message: str
) -> None:
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_models_config(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
