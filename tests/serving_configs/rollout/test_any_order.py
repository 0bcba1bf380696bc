"""The commands and polling servers in any order: none is left where it can't get on by itself.

Hypothesis makes up hundreds of sequences of commands, time that passes, and servers that start,
load slowly or cannot load a version. The commands are the real ones, on a real tree; the servers
are a model of TF Serving's rule, so that hours pass in a moment. `test_polling.py` has a few
sequences on servers that poll.
"""

import collections
import contextlib
import dataclasses
import functools
import io
import os
import pathlib
import shutil
import tempfile
import types
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from serving_configs import MANIFEST, load_manifest, render_manifest
from serving_configs import __main__ as main_module
from serving_configs import write as write_module
from serving_configs.__main__ import main
from serving_configs.flags import parser_of as new_parser_of
from serving_configs.rollout import edit as edit_module
from serving_configs.rollout.history import State, state_of
from serving_configs.server.models_config import models_config_path, read_models_config
from tests.support.manifests import write_small_version
from tests.support.polling_server import LOAD, POLL, PollingServer
from tests.support.trees import MODELS

VERSIONS = 5
ROUNDS = 4
# Thousands of files are written to be on a disk, which is not what this is about.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
# What a server needs to take a file that it can take: a start, a load, and two looks.
ENOUGH = 2 * LOAD + 3 * POLL

parser_of = functools.cache(new_parser_of)
counts: collections.Counter[str] = collections.Counter()


@pytest.fixture(scope="module")
def every_version() -> Iterator[pathlib.Path]:
    """A tree with all versions, of a few bytes: the commands read all of each that they name.

    The files of the sequences' trees are the same ones.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        tree = pathlib.Path(directory) / "tree"
        for model in MODELS:
            for version in range(1, VERSIONS + 1):
                path = write_small_version(tree / "serving" / model / str(version))
                manifest = dataclasses.replace(load_manifest(path), model=model)
                (path / MANIFEST).write_text(render_manifest(manifest))
        yield tree


def machine(every_version: pathlib.Path) -> type[RuleBasedStateMachine]:
    """The state machine over trees with the versions of `every_version`."""
    versions = st.integers(1, VERSIONS)
    # Of the versions that are there, from the latest one down.
    nth = st.integers(0, VERSIONS - 1)
    models = st.sampled_from(MODELS)

    class RollOuts(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.now = 1.8e9
            self.root = pathlib.Path(tempfile.mkdtemp(dir=MEMORY))
            self.tree = str(self.root)
            self.servers: list[PollingServer] = []
            clock = types.SimpleNamespace(time=lambda: self.now, sleep=self.pass_time)
            self.patches = pytest.MonkeyPatch()
            self.patches.setattr(edit_module, "time", clock)
            self.patches.setattr(write_module, "time", clock)
            # Thousands of commands are run, and a third of their time made the same parser.
            self.patches.setattr(main_module, "parser_of", parser_of)
            # Archives and pages take most of the time and have no part in this.
            self.patches.setattr(write_module, "write_archives", lambda *arguments: [])
            self.patches.setattr(write_module, "write_pages", lambda *arguments: None)

        def teardown(self) -> None:
            self.patches.undo()
            shutil.rmtree(self.root)

        @initialize(number=st.integers(1, 2))
        def first_versions(self, number: int) -> None:
            """Two versions of the first model and three labels; perhaps a model beside it."""
            self.publish(MODELS[0], True)
            self.start(1.0, POLL)
            self.publish(MODELS[0], True)
            self.pass_time(LOAD + 2 * POLL)
            self.promote(MODELS[0], 0, False)
            self.pass_time(POLL)
            for model in MODELS[1:number]:
                self.publish(model, True)

        @rule(poll=st.floats(1.0, POLL), load=st.floats(1.0, LOAD))
        def start(self, load: float, poll: float) -> None:
            if len(self.servers) < 3:
                self.servers.append(PollingServer(poll, load))
                self.servers[-1].start(self.file(), self.now)

        @rule(number=st.integers(0, 2))
        def restart(self, number: int) -> None:
            server = self.servers[number % len(self.servers)]
            server.start(self.file(), self.now)

        @rule(number=st.integers(0, 2), model=models, version=versions)
        def cannot_load(self, number: int, model: str, version: int) -> None:
            """One that the server has not seen yet turns out to be more than it can load."""
            server = self.servers[number % len(self.servers)]
            if (model, version) not in server.loads:
                server.broken.add((model, version))

        @rule(seconds=st.sampled_from([0.5, POLL / 2, POLL, 2 * POLL, LOAD, LOAD + 2 * POLL]))
        def pass_time(self, seconds: float) -> None:
            for server in self.servers:
                server.run(self.file(), self.now, self.now + seconds)
            self.now += seconds

        @rule(model=models, write=st.sampled_from([True, True, False]))
        def publish(self, model: str, write: bool) -> None:
            base = self.root / "serving" / model
            base.mkdir(exist_ok=True, parents=True)
            version = len(list(base.iterdir())) + 1
            if version <= VERSIONS:
                self.link(model, version)
            if write:
                self.write()

        @rule(
            model=models,
            number=st.integers(0, 2),
            labels=st.lists(st.sampled_from(["canary", "next", "stable"]), max_size=2),
            undo=st.booleans(),
        )
        def publish_what_a_server_cannot_load(
            self, model: str, number: int, labels: list[str], undo: bool
        ) -> None:
            """A version that the gate and its manifest find nothing wrong with."""
            self.publish(model, False)
            latest = self.version(model, 0)
            self.cannot_load(number, model, int(latest[1]))
            self.write()
            self.pass_time(LOAD + 2 * POLL)
            for label in labels:
                if label == "stable":
                    self.edit("promote", model, *latest)
                else:
                    self.edit("label", model, *latest, "--label", label)
            if undo:
                self.roll_back(model)

        @rule()
        def write(self) -> None:
            assert self.command("write", self.tree) == 0

        @rule(model=models, nth=nth, wait=st.booleans())
        def promote(self, model: str, nth: int, wait: bool) -> None:
            self.edit("promote", model, *self.version(model, nth), *["--wait"] * wait)

        @rule(model=models, nth=nth, label=st.sampled_from(["canary", "next"]))
        def label(self, model: str, label: str, nth: int) -> None:
            self.edit("label", model, *self.version(model, nth), "--label", label)

        @rule(model=models, nth=nth, wait=st.booleans())
        def roll_back_to(self, model: str, nth: int, wait: bool) -> None:
            with self.freeing(model):
                self.edit("rollback", model, *self.version(model, nth), *["--wait"] * wait)

        @rule(model=models)
        def roll_back(self, model: str) -> None:
            known = self.file().get(model)
            with self.freeing(model):
                status = self.edit("rollback", model)
            assert status == 0 or known is None or "previous" not in known.labels

        @invariant()
        def no_server_is_stuck(self) -> None:
            for server in self.servers:
                if not server.broken and self.stuck(server):
                    raise AssertionError(f"{server} refuses {self.file()} for ever")

        @invariant()
        def calls_by_stable_are_answered(self) -> None:
            """But for a server that starts, a label is on what is there."""
            for server in self.servers:
                settled = server.copy()
                settled.run(self.file(), self.now, self.now + ENOUGH)
                for (model, label), version in settled.labels_that_fail(self.now + ENOUGH).items():
                    assert (model, version) in server.broken, (label, server)

        @contextlib.contextmanager
        def freeing(self, model: str) -> Iterator[None]:
            """A rollback to what a server serves is taken, whatever it can't load."""
            stuck = [self.stuck(server) for server in self.servers]
            before = self.file()
            yield
            if self.file() == before:
                return
            target = self.file()[model].labels["stable"]
            for server, was_stuck in zip(self.servers, stuck, strict=True):
                serves = server.state is not None and model in server.state
                if not serves or not server.available(model, target, self.now):
                    continue
                # What another model's labels do is for a rollback of that one.
                if {m for m, _, _ in server.refuses(self.file(), self.now)} - {model}:
                    continue
                assert not self.stuck(server), f"{server} refuses {self.file()} for ever"
                counts["freed"] += was_stuck

        def stuck(self, server: PollingServer) -> bool:
            later = server.copy()
            later.run(self.file(), self.now, self.now + ENOUGH)
            return later.state != self.file()

        def file(self) -> State:
            path = models_config_path(self.tree)
            content = path.stat().st_ino, path.stat().st_mtime_ns
            if content != getattr(self, "seen", None):
                self.seen = content
                self.known = state_of(read_models_config(path))
            return self.known

        def edit(self, command: str, model: str, *flags: str) -> int:
            before = models_config_path(self.tree).read_bytes()
            status = self.command(command, "--publish_to", self.tree, "--model", model, *flags)
            waited = "--wait" in flags
            assert status == 0 or waited or models_config_path(self.tree).read_bytes() == before
            counts[f"{command} {'waited ' * waited}{'done' if status == 0 else 'refused'}"] += 1
            return status

        def command(self, *arguments: str) -> int:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                return main(arguments)

        def version(self, model: str, nth: int) -> list[str]:
            base = self.root / "serving" / model
            there = len(list(base.iterdir())) if base.is_dir() else 1
            return ["--version", str(there - nth % max(there, 1))]

        def link(self, model: str, version: int) -> None:
            source = every_version / "serving" / model / str(version)
            target = self.root / "serving" / model / str(version)
            shutil.copytree(source, target, copy_function=os.link)

    return RollOuts


def lacking() -> list[str]:
    """What the sequences have not come to often enough, of what they are about."""
    wanted = ("promote done", "promote refused", "promote waited done", "rollback done")
    often = {**dict.fromkeys(wanted, 10), "freed": 5}
    return [outcome for outcome, times in often.items() if counts[outcome] < times]


@pytest.mark.slow
def test_no_sequence_leaves_a_server_stuck(every_version: pathlib.Path) -> None:
    counts.clear()
    sequences = machine(every_version)
    # Which numbers hypothesis tries depends on the modules that are loaded, and so on the tests
    # that ran before: now and then the first sequences lack something.
    for number in range(ROUNDS):
        if "CAIT_SEQUENCES" not in os.environ:
            seed(number)(sequences)
        run_state_machine_as_test(
            sequences,
            settings=settings(
                max_examples=int(os.environ.get("CAIT_SEQUENCES", "200")),
                stateful_step_count=20,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        if not lacking():
            break
    assert not lacking(), counts
