"""What servers can have taken of the files so far, and what they would refuse for ever."""

import math
import os
import pathlib

import pytest
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving_configs.rollout.history import (
    Entry,
    History,
    ModelState,
    Move,
    Polling,
    State,
    history_path,
    read_history,
    state_of,
    write_history,
)
from serving_configs.server.models_config import add_published, as_text

POLLING = Polling(30.0, 600.0)
LAG = 660.0


def of(*versions: int, **labels: int) -> State:
    return {"m": ModelState(frozenset(versions), labels)}


FIRST = of(1, stable=1)
NAMED = of(1, 2, stable=1)
PROMOTED = of(1, 2, previous=1, stable=2)


def test_a_label_moves_when_every_server_knows_the_version() -> None:
    history = History().followed_by(FIRST, 0.0)
    move = Move("m", "stable", 2)
    # The present file does not name it, however long one waits.
    assert history.unsafe_moves(PROMOTED, 1e9, POLLING) == {move: math.inf}
    history = history.followed_by(NAMED, 100.0)
    assert history.unsafe_moves(PROMOTED, 101.0, POLLING) == {move: LAG - 1}
    assert history.unsafe_moves(PROMOTED, 99.0, POLLING) == {move: LAG + 1}
    assert history.unsafe_moves(PROMOTED, 100.0 + LAG, POLLING) == {}
    assert history.unsafe_moves(PROMOTED, 101.0, Polling(0.0, 600.0)) == {}
    # The same file again changes nothing.
    assert history.followed_by(NAMED, 500.0) == history


def test_a_label_that_no_server_has_may_name_anything() -> None:
    history = History().followed_by(FIRST, 0.0)
    assert history.unsafe_moves(of(1, 2, stable=1, next=2), 0.0, POLLING) == {}
    other = {**FIRST, "n": ModelState(frozenset({7}), {"stable": 7})}
    assert history.unsafe_moves(other, 0.0, POLLING) == {}
    # Once it is there it has versions of its own.
    history = history.followed_by(of(1, 2, stable=1, next=2), 0.0)
    assert history.unsafe_moves(of(1, 3, stable=1, next=3), 0.0, POLLING) == {
        Move("m", "next", 3): math.inf
    }


def test_a_server_that_skipped_files_counts() -> None:
    history = History()
    for moment, state in enumerate([FIRST, NAMED, PROMOTED, of(1, 2, 3, stable=2)]):
        history = history.followed_by(state, float(moment))
    onward = of(2, 3, stable=3)
    # The first three files are of servers that do not load version 3; the third was there longest.
    assert history.unsafe_moves(onward, 3.0, POLLING) == {Move("m", "stable", 3): LAG}
    # Back to version 1: all of them have it.
    assert history.unsafe_moves(of(1, 2, stable=1), 3.0, POLLING) == {}


def test_what_somebody_else_wrote_is_known_from_its_time_on(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "models.config"
    config = add_published(ModelServerConfig(), {"m": [1, 2]}, "/models")
    assert read_history(path, config, 5.0) == History()
    path.write_text(as_text(config))
    os.utime(path, (1000.0, 1000.0))
    found = read_history(path, config, 1100.0)
    assert found.entries == (Entry(None, 1000.0), Entry(state_of(config)))
    moved = of(1, 2, stable=1, canary=2)
    # Nobody knows what servers had before.
    assert set(found.unsafe_moves(moved, 1100.0, POLLING).values()) == {math.inf}
    named = found.followed_by(of(1, 2, stable=2, canary=2), 1100.0)
    assert named.unsafe_moves(moved, 1101.0, POLLING) == {Move("m", "stable", 1): LAG - 1}
    # A clock that was put back makes nothing older than it is.
    assert read_history(path, config, 900.0).entries[0].replaced == 900.0


def test_it_is_read_back(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "models.config"
    config = add_published(ModelServerConfig(), {"m": [1, 2]}, "/models")
    path.write_text(as_text(config))
    history = History((Entry(None, 1.0),), {"m": 3}).followed_by(FIRST, 2.0)
    history = history.followed_by(PROMOTED, 3.0).followed_by(state_of(config), 4.0)
    assert history.moved == {"m": {"stable"}}
    write_history(path, history)
    assert read_history(path, config, 5.0) == history
    assert history_path(path).name == ".models.config.history.json"


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"format": 2}', '{"format": 1}'])
def test_one_that_cannot_be_read_is_not_known(tmp_path: pathlib.Path, content: str) -> None:
    path = tmp_path / "models.config"
    config = add_published(ModelServerConfig(), {"m": [1]}, "/models")
    path.write_text(as_text(config))
    history_path(path).write_text(content)
    assert read_history(path, config, 5.0).entries == (Entry(None, 5.0), Entry(state_of(config)))


def test_old_files_are_forgotten() -> None:
    history = History()
    for day in range(30):
        history = history.followed_by(of(day, stable=day), day * 86400.0)
    assert 7 <= len(history.entries) <= 9
