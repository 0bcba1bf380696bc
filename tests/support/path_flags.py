"""The flags of every command that take paths, found in the commands' own parsers."""

import argparse
import os
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

from cait import COMMANDS
from signatures.addresses import AddressError
from tests.support.paths import REPOSITORY

BENCHMARKS = {
    f"benchmarks.{path.stem}": f"benchmarks.{path.stem}"
    for path in sorted((REPOSITORY / "benchmarks").glob("*.py"))
    if "ArgumentParser(" in path.read_text(encoding="utf-8")
}
MODULES = {name: command.module for name, command in COMMANDS.items()} | BENCHMARKS

PATHS = {
    "publish": {
        *("checkpoints", "labels", "publish_to", "sample_shard", "sign_with", "staging_dir"),
    },
    "evaluate": {"data", "models", "output", "table"},
    "verify": {"public_key", "publish_to"},
    "fetch-weights": {"to"},
    "sample-shard": {"images", "output"},
    "configs": {"archive", "directory", "public_key", "publish_to", "replace", "sign_with"},
    "serve": {
        *("batching_parameters_file", "grpc_socket_path", "model_base_path", "model_config_file"),
        *("monitoring_config_file", "require_signature", "ssl_config_file"),
    },
    "classify": {"ca", "cert", "key", "photos"},
    "client": {"ca", "cert", "key", "photos"},
    "attention": {"output", "photograph", "saved_model"},
    "page": {"models_from", "photograph", "published"},
    "benchmarks.fuzz": {"model", "work"},
    "benchmarks.inference": {"competitors", "work"},
    "benchmarks.interruptions": {"place"},
    "benchmarks.onwards": {"converters", "work"},
    "benchmarks.pipeline": {"work"},
    "benchmarks.publish_faults": set(),
    "benchmarks.scale": {"picture"},
    "benchmarks.serving": {"server_binary", "work"},
    "benchmarks.serving_memory": {"published", "server_binary"},
}


class FoundError(Exception):
    """Ends a command at its first parser."""


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of a command."""
    parsers = []

    def stop(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        parsers.append(parser)
        raise FoundError

    module = pkgutil.resolve_name(MODULES[command])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        with pytest.raises(FoundError):
            module.main([])
    return parsers[0]


def flags_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """What takes text, of a parser and its subcommands'."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from flags_of(command)
        elif action.nargs != 0:
            yield action


def read(flag: argparse.Action, text: str) -> str:
    """A flag's value. A photo has a name beside its path."""
    value: Any = flag.type(text) if callable(flag.type) else text
    if getattr(value, "problem", None):
        raise AddressError(f"{text}: {value.problem}")
    return str(getattr(value, "path", value))


def takes_paths(flag: argparse.Action) -> bool:
    """Whether a flag's value is a path."""
    try:
        return read(flag, "~/x") == f"{os.environ['HOME']}/x"
    except (ValueError, TypeError, argparse.ArgumentTypeError):
        return False
