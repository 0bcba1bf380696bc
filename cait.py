"""The command of an installation: `cait COMMAND ...`.

A table of commands. A command's module is imported when the command is called, so `cait --help`
does not wait for TensorFlow and Beam to load.
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
        module: module with `main(argv, prog)`.
        summary: what the command does, in one line.
        first: arguments to put first.
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
    "fetch-weights": Command(
        "pipelines.fetch_weights", "put timm's weights from the model hub into a directory"
    ),
    "sample-shard": Command("pipelines.sample_shard", "write a balanced sample of labelled images"),
    "configs": Command(
        "serving_configs.__main__", "write configs and pages; promote and roll back versions"
    ),
    "serve": Command("serving.model_server.__main__", "serve published models over gRPC and REST"),
    "classify": Command("serving.client.command", "classify photos with a server", ("classify",)),
    "client": Command("serving.client.command", "call a server: classify, status, metadata"),
    "attention": Command("serving.attention.command", "draw where a model looks in a photo"),
    "page": Command("serving.page.command", "show where a model looks on a local page"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: arguments; by default those of the process.

    Returns:
        The command's exit status; 2 for an unknown command.
    """
    if argv is None:
        # This process is the command.
        from signatures.program import run

        return run(lambda: main(sys.argv[1:]))
    name, *arguments = argv or [""]
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
    # The parser of a command adds the name of its subcommand.
    prog = "cait" if command.first else f"cait {name}"
    module = importlib.import_module(command.module)
    status: int = module.main([*command.first, *arguments], prog)
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:{width}}  {entry.summary}" for name, entry in COMMANDS.items())
    return f"""\
usage: cait COMMAND ...

Converts CaiT models from PyTorch weights to TensorFlow SavedModels, and serves them.

{table}

example, a model with random weights, published and served:
  cait publish --variants cait_xxs24_224 --checkpoints random \\
      --sample_shard 'shards/sample-*' --publish_to published
  cait serve --model_config_file=published/serving/models.config \\
      --allow_version_labels_for_unavailable_models

`cait COMMAND --help` has the flags of a command; `cait --version` prints the version."""


if __name__ == "__main__":
    sys.exit(main())
