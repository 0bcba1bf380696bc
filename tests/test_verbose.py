"""`--verbose`, which every command has."""

import os

import pytest

from pipelines.publish.options import parse
from signatures.flags import LOG_LEVEL
from tests.support.path_flags import MODULES, parser_of

# Any that are accepted.
PUBLISH = ("--checkpoints", "random", "--sample_shard", "s", "--publish_to", "t")


@pytest.fixture(autouse=True)
def level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG_LEVEL, "3")


@pytest.mark.parametrize(
    "command", [module for module in MODULES if not module.startswith("benchmarks.")]
)
def test_every_command_has_it(command: str) -> None:
    assert "--verbose" in parser_of(command).format_help()


def test_processes_that_are_started_inherit_it() -> None:
    parse(PUBLISH)
    assert os.environ[LOG_LEVEL] == "3"
    _, of_beam = parse([*PUBLISH, "--verbose"])
    assert os.environ[LOG_LEVEL] == "0"
    # Beam would refuse a flag that it does not know.
    assert "verbose" not in of_beam.get_all_options(retain_unknown_options=True)
