"""The flags of every command that are paths."""

from cait import COMMANDS
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
    "configs": {"archive", "directory", "public_key", "publish_to", "sign_with"},
    "serve": {
        *("batching_parameters_file", "grpc_socket_path", "model_base_path", "model_config_file"),
        *("monitoring_config_file", "require_signature", "ssl_config_file"),
    },
    "classify": {"ca", "cert", "key", "photos"},
    "client": {"ca", "cert", "key", "photos"},
    "attention": {"output", "photograph", "saved_model"},
    "page": {"models_from", "published"},
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
