"""The command line: tensorflow_model_server's names, and one line for what is wrong."""

import pytest

from serving.command_line import UsageError
from serving.model_server.__main__ import main
from serving.model_server.flags import Options, parse_flags

BASE = "--model_base_path=/m"


def test_the_defaults_are_those_of_the_real_server() -> None:
    options = parse_flags([BASE])
    assert (options.port, options.rest_api_port, options.rest_api_timeout_in_ms) == (8500, 0, 30000)
    assert options.model_name == "default"
    assert options.file_system_poll_wait_seconds == 1
    assert options.model_config_file_poll_wait_seconds == 0
    assert (options.max_num_load_retries, options.load_retry_interval_micros) == (5, 60_000_000)
    assert options.enable_model_warmup
    assert not options.allow_version_labels_for_unavailable_models
    # The real one listens everywhere.
    assert options.host == "127.0.0.1"


def test_both_ways_to_write_a_value() -> None:
    one = parse_flags([BASE, "--port=1", "--model_name=m", "--enable_model_warmup=false"])
    separate = "--model_base_path /m --port 1 --model_name m --enable_model_warmup false"
    two = parse_flags(separate.split())
    assert (
        one
        == two
        == Options(model_base_path="/m", port=1, model_name="m", enable_model_warmup=False)
    )
    assert parse_flags([BASE, "--allow_version_labels_for_unavailable_models"]) == Options(
        model_base_path="/m", allow_version_labels_for_unavailable_models=True
    )


def test_channel_arguments() -> None:
    options = parse_flags([BASE, "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,a=b"])
    assert options.grpc_channel_arguments == (("grpc.max_connection_age_ms", 2000), ("a", "b"))


@pytest.mark.parametrize(
    ("flags", "parallelism"),
    [
        ([], (0, 0)),
        (["--tensorflow_session_parallelism=3"], (3, 3)),
        (["--tensorflow_intra_op_parallelism=3"], (3, 0)),
        (["--tensorflow_intra_op_parallelism=3", "--tensorflow_inter_op_parallelism=2"], (3, 2)),
    ],
)
def test_parallelism(flags: list[str], parallelism: tuple[int, int]) -> None:
    assert parse_flags([BASE, *flags]).parallelism == parallelism


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--por=1"], "unknown argument: --por=1"),
        (["serve"], "unknown argument: serve"),
        (
            ["--saved_model_tags=serve"],
            "--saved_model_tags: a flag of tensorflow_model_server that this server does not have",
        ),
        (
            ["--xla_cpu_compilation_enabled=true"],
            "--xla_cpu_compilation_enabled: a flag of tensorflow_model_server that this server "
            "does not have",
        ),
        (["--port=x"], "argument --port: not a number: 'x'"),
        (["--port=70000"], "--port=70000: not a port"),
        (
            ["--enable_model_warmup=1"],
            "argument --enable_model_warmup: neither true nor false: '1'",
        ),
        (
            ["--grpc_channel_arguments=a"],
            "argument --grpc_channel_arguments: not name=value: 'a'",
        ),
        (["--grpc_max_threads=0"], "--grpc_max_threads=0: not positive"),
        (["--rest_api_num_threads=0"], "--rest_api_num_threads=0: not positive"),
        (["--rest_api_port=-1"], "--rest_api_port=-1: not a port"),
        (["--rest_api_port=8500"], "--rest_api_port=8500: the same as --port"),
        (
            ["--monitoring_config_file=f"],
            "--monitoring_config_file is set without --rest_api_port, where the metrics would be "
            "read",
        ),
        (["--max_num_load_retries=-1"], "--max_num_load_retries=-1: negative"),
        (
            [f"--tensorflow_{kind}_parallelism=1" for kind in ("session", "intra_op", "inter_op")],
            "either --tensorflow_session_parallelism or the two of "
            "--tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism, not all",
        ),
        (
            ["--batching_parameters_file=f"],
            "--batching_parameters_file is set without setting --enable_batching to true",
        ),
    ],
)
def test_wrong_flags(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([BASE, *flags]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"model_server: {message}\n")


def test_nothing_to_serve() -> None:
    with pytest.raises(UsageError, match="--model_base_path or --model_config_file is needed"):
        parse_flags([])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("TensorFlow ModelServer: ")
    assert second.startswith("TensorFlow Library: 2.")
