"""The one front door of an installation: `cait COMMAND ...`.

A table of commands and nothing else. The module of a command is imported when that command is
called, so `cait --help` takes a fraction of the seconds that TensorFlow and Beam take to load.
"""

import dataclasses
import importlib
import importlib.metadata
import sys
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        module: has its `main(argv, prog)`.
        summary: what it does, in one line.
        first: arguments that the name stands for.
    """

    module: str
    summary: str
    first: tuple[str, ...] = ()


COMMANDS = {
    "publish": Command(
        "pipelines.publish.command", "convert, validate and publish models from CaiT weights"
    ),
    "evaluate": Command(
        "pipelines.evaluate.command", "measure the accuracy of published classifiers"
    ),
    "verify": Command("pipelines.verify", "check a published tree against its manifests"),
    "sample-shard": Command("pipelines.sample_shard", "write a balanced sample of labelled images"),
    "configs": Command(
        "serving_configs.__main__", "write configs and pages; promote and roll back versions"
    ),
    "serve": Command("serving.model_server.__main__", "serve published models over gRPC and REST"),
    "classify": Command(
        "serving.client.command", "ask a server for the classes of photos", ("classify",)
    ),
    "client": Command("serving.client.command", "ask a server: classify, status, metadata"),
    "attention": Command("serving.attention.command", "draw where a model looks in a photo"),
    "page": Command("serving.page.command", "show where a model looks on a local page"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: the arguments; those of the process if there are none.

    Returns:
        The command's exit status; 2 for one that there is not.
    """
    name, *arguments = (sys.argv[1:] if argv is None else argv) or [""]
    if name in ("-h", "--help", ""):
        print(_help(), file=sys.stdout if name else sys.stderr)
        return 0 if name else 2
    if name == "--version":
        print(f"cait {importlib.metadata.version('cait-serving')}")
        return 0
    if name not in COMMANDS:
        print(f"cait: no command {name!r}; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    command = COMMANDS[name]
    # A command's parser adds the name of a subcommand itself.
    prog = "cait" if command.first else f"cait {name}"
    module = importlib.import_module(command.module)
    status: int = module.main([*command.first, *arguments], prog)
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:{width}}  {entry.summary}" for name, entry in COMMANDS.items())
    return f"""\
usage: cait COMMAND ...

CaiT models from PyTorch weights to TensorFlow SavedModels that are served.

{table}

example, a model with random weights, published and served:
  cait publish --variants cait_xxs24_224 --checkpoints random \\
      --sample_shard 'shards/sample-*' --publish_to published
  cait serve --model_config_file=published/serving/models.config

`cait COMMAND --help` has the flags of a command; `cait --version` prints the version."""


if __name__ == "__main__":
    sys.exit(main())
