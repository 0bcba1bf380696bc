"""The flags of the server, with tensorflow_model_server's names and meanings.

Source: `main.cc` and `server.cc` of tensorflow/serving's model_servers.
"""

import argparse
import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from signatures.addresses import absolute_address, address

from ..command_line import CommandParser, UsageError
from .flag_help import DESCRIPTION, EXAMPLE, GROUPS

# Flags of tensorflow_model_server that this server does not have.
_MISSING_FLAGS = frozenset(
    (
        "enable_grpc_healthcheck_service",
        "enable_profiler",
        "enable_serialization_as_tensor_content",
        "enable_signature_method_name_check",
        "flush_filesystem_caches",
        "mixed_precision",
        "num_load_threads",
        "num_request_iterations_for_warmup",
        "num_tflite_interpreters_per_pool",
        "num_tflite_pools",
        "num_unload_threads",
        "per_process_gpu_memory_fraction",
        "platform_config_file",
        "prefer_tflite_model",
        "remove_unused_fields_from_bundle_metagraph",
        "saved_model_tags",
        "skip_initialize_tpu",
        "tensorflow_session_config_file",
        "thread_pool_factory_config_file",
        "use_alts_credentials",
        "xla_cpu_compilation_enabled",
        "xla_gpu_compilation_enabled",
    )
)


_PORTS = ("port", "rest_api_port")
_NOT_NEGATIVE = (
    "model_config_file_poll_wait_seconds",
    "file_system_poll_wait_seconds",
    "max_num_load_retries",
    "tensorflow_session_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
)
_PATHS = (
    "model_config_file",
    "grpc_socket_path",
    "ssl_config_file",
    "monitoring_config_file",
    "batching_parameters_file",
)
_POSITIVE = ("grpc_max_threads", "rest_api_num_threads")


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of a server, checked. Names and defaults are those of tensorflow_model_server.

    Attributes:
        host: address to listen on; the real server has no such flag and listens everywhere.
        allow_reload: let calls replace the config; the real server has no such flag.
        require_signature: PEM file of public keys; versions that none of them signed are not
            loaded. The real server has no such flag.
        reload_clients: names of certificates, separated by commas; with verified certificates
            only these may replace the config. The real server has no such flag.
        rest_api_timeout_in_ms: milliseconds that a model may run; not positive is no limit.
        grpc_channel_arguments: pairs of a name and a value.
        enable_per_model_batching_parameters: has no effect without `enable_batching`.
        model_config_file_poll_wait_seconds: 0 reads the file once. The command line takes whole
            numbers here and in the next.
        file_system_poll_wait_seconds: 0 searches the base paths of the first config, once.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    grpc_socket_path: str = ""
    rest_api_port: int = 0
    rest_api_num_threads: int = 4 * (os.cpu_count() or 1)
    rest_api_timeout_in_ms: int = 30000
    rest_api_enable_cors_support: bool = False
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: float = 0
    file_system_poll_wait_seconds: float = 1
    monitoring_config_file: str = ""
    enable_batching: bool = False
    batching_parameters_file: str = ""
    enable_per_model_batching_parameters: bool = False
    enable_model_warmup: bool = True
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    allow_version_labels_for_unavailable_models: bool = False
    grpc_channel_arguments: tuple[tuple[str, int | str], ...] = ()
    grpc_max_threads: int = 4 * (os.cpu_count() or 1)
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    ssl_config_file: str = ""
    allow_reload: bool = True
    reload_clients: str = ""
    require_signature: str | None = None
    version: bool = False

    def __post_init__(self) -> None:
        """Checks the flags together.

        Raises:
            UsageError: what is wrong, in one line.
        """
        self._check_numbers()
        if self.rest_api_port and self.rest_api_port == self.port:
            raise UsageError(f"--rest_api_port={self.rest_api_port}: the same as --port")
        if self.monitoring_config_file and not self.rest_api_port:
            raise UsageError(
                "--monitoring_config_file is set without --rest_api_port, where the metrics would "
                "be read"
            )
        if (
            self.tensorflow_session_parallelism
            and self.tensorflow_intra_op_parallelism
            and self.tensorflow_inter_op_parallelism
        ):
            raise UsageError(
                "either --tensorflow_session_parallelism or the two of "
                "--tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism, not all"
            )
        if self.batching_parameters_file and not self.enable_batching:
            raise UsageError(
                "--batching_parameters_file is set without setting --enable_batching to true"
            )
        if self.reload_clients and not self.allow_reload:
            raise UsageError(
                f"--reload_clients={self.reload_clients}: no call may load a config with "
                "--allow_reload=false"
            )
        if not (self.version or self.model_base_path or self.model_config_file):
            raise UsageError("--model_base_path or --model_config_file is needed")

    def _check_numbers(self) -> None:
        for names, least, most, problem in (
            (_PORTS, 0, 65535, "not a port"),
            (_NOT_NEGATIVE, 0, math.inf, "negative"),
            (_POSITIVE, 1, math.inf, "not positive"),
        ):
            for name in names:
                value = getattr(self, name)
                if not least <= value <= most:
                    raise UsageError(f"--{name}={value}: {problem}")

    @property
    def reload_client_names(self) -> tuple[str, ...]:
        """The names in `reload_clients`."""
        return tuple(filter(None, (name.strip() for name in self.reload_clients.split(","))))

    @property
    def parallelism(self) -> tuple[int, int]:
        """Threads within and between operations; 0 leaves the choice to TensorFlow."""
        separate = (self.tensorflow_intra_op_parallelism, self.tensorflow_inter_op_parallelism)
        if any(separate):
            return separate
        return (self.tensorflow_session_parallelism, self.tensorflow_session_parallelism)


PROG = "python -m serving.model_server"


def parse_flags(argv: Sequence[str], prog: str = PROG) -> Options:
    """The options of a command line.

    Args:
        argv: arguments: `--flag=value` or `--flag value`; a boolean is `--flag`, `--flag=true` or
            `--flag=false`.
        prog: name of the command in its help.

    Raises:
        UsageError: a flag or a value is wrong; one line.
        SystemExit: after `--help`.
    """
    parsed, rest = _parser(prog).parse_known_args(argv)
    for argument in rest:
        name = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and name in _MISSING_FLAGS:
            raise UsageError(
                f"--{name}: a flag of tensorflow_model_server that this server does not have"
            )
        raise UsageError(f"unknown argument: {argument}")
    return Options(**vars(parsed))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog,
        usage="%(prog)s (--model_base_path=DIR | --model_config_file=FILE) [flags]",
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    defaults = {field.name: field.default for field in dataclasses.fields(Options)}
    for title, flags in GROUPS.items():
        group = parser.add_argument_group(title)
        for name, text in flags.items():
            _add_flag(group, name, defaults[name], text)
    return parser


def _add_flag(group: "argparse._ArgumentGroup", name: str, default: object, text: str) -> None:
    """Adds a flag with the type of its default."""
    shown = str(default or "none")
    kind: dict[str, Any] = {"metavar": "NAME"}
    if isinstance(default, tuple):
        kind = {"type": _channel_arguments, "metavar": "NAME=VALUE,..."}
    elif isinstance(default, bool):
        shown = str(default).lower()
        kind = {"type": _boolean, "nargs": "?", "const": True, "metavar": "true|false"}
    elif name in _PATHS:
        kind = {"type": _unless_empty(address), "metavar": "FILE"}
    elif name == "require_signature":
        # Empty, as from a variable that is not set, would check nothing.
        kind = {"type": address, "metavar": "FILE"}
    elif name == "model_base_path":
        # The real server takes no relative one.
        kind = {"type": _unless_empty(absolute_address), "metavar": "DIR"}
    elif isinstance(default, int):
        shown = str(default)
        kind = {"type": _integer, "metavar": "N"}
    group.add_argument(f"--{name}", default=default, help=f"{text} (default: {shown})", **kind)


def _unless_empty(read: Callable[[str], str]) -> Callable[[str], str]:
    # Empty is none, as for the real server.
    return lambda text: text and read(text)


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"neither true nor false: {text!r}")
    return text == "true"


def _channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    pairs: list[tuple[str, int | str]] = []
    for entry in filter(None, text.split(",")):
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise argparse.ArgumentTypeError(f"not name=value: {entry!r}")
        try:
            pairs.append((name, int(value)))
        except ValueError:
            pairs.append((name, value))
    return tuple(pairs)
