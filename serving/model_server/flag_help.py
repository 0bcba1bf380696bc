"""The server's `--help`: its flags in groups."""

GROUPS: dict[str, dict[str, str]] = {
    "models": {
        "model_name": "name of the model in --model_base_path",
        "model_base_path": "directory of a model's numbered versions; the latest is served",
        "model_config_file": "text proto of ModelServerConfig: several models, versions, labels",
        "model_config_file_poll_wait_seconds": "seconds between reads of that file; 0 is once",
        "file_system_poll_wait_seconds": "seconds between searches of the base paths for "
        "versions; 0 is once, at the start",
        "allow_version_labels_for_unavailable_models": "let a new label name a version that "
        "is not loaded yet",
        "require_signature": "PEM file of public keys: load no version that none of them "
        "signed, or that is not as it was signed; tensorflow_model_server has no such flag",
        "enable_model_warmup": "run each version's warm-up requests before it serves",
        "max_num_load_retries": "how often a failed load is tried again",
        "load_retry_interval_micros": "microseconds between these tries; negative does not wait",
    },
    "addresses": {
        "host": "address to listen on; tensorflow_model_server has no such flag",
        "port": "port of gRPC; 0 takes a free one",
        "grpc_socket_path": "path of a Unix socket, on which gRPC listens too",
        "grpc_channel_arguments": "options of gRPC, such as grpc.max_connection_age_ms=2000",
        "grpc_max_threads": "threads that answer gRPC",
        "ssl_config_file": "text proto of SSLConfig: key, certificate and clients' authority",
        "allow_reload": "let HandleReloadConfigRequest calls replace the config; "
        "tensorflow_model_server has no such flag",
        "reload_clients": "names in certificates, separated by commas: with client_verify in "
        "--ssl_config_file only these clients may; tensorflow_model_server has no such flag",
    },
    "REST": {
        "rest_api_port": "port of REST; 0 switches REST off",
        "rest_api_num_threads": "threads that answer REST",
        "rest_api_timeout_in_ms": "milliseconds that a model may run for a call; 0 is no limit",
        "rest_api_enable_cors_support": "let web pages of other origins call it",
        "monitoring_config_file": "text proto of MonitoringConfig: the path of the metrics",
    },
    "batching": {
        "enable_batching": "join requests to batches",
        "batching_parameters_file": "text proto of BatchingParameters",
        "enable_per_model_batching_parameters": "read a model's own batching parameters, from "
        "batching_params.pbtxt of its version",
    },
    "processors": {
        "tensorflow_session_parallelism": "threads within and between operations; 0 leaves both "
        "to TensorFlow",
        "tensorflow_intra_op_parallelism": "threads within an operation, instead",
        "tensorflow_inter_op_parallelism": "threads between operations, instead",
    },
    "about": {"version": "print the versions and end"},
}
"""Group -> flag -> help text. `Options` adds the defaults."""

DESCRIPTION = """\
Serves published models over gRPC and REST with TensorFlow Serving's API, for development and
tests. Flags have the names, meanings and defaults of tensorflow_model_server.
"""

EXAMPLE = """\
example, one model with both APIs:
  %(prog)s --model_name=cait_xxs24_224 \\
      --model_base_path="$PWD/published/serving/cait_xxs24_224" --rest_api_port=8501

and every model of a published tree:
  %(prog)s --model_config_file=published/serving/models.config \\
      --allow_version_labels_for_unavailable_models

On SIGTERM it answers the calls in flight and ends.
"""
