"""What `--help` of the server says: its flags by what they are about."""

GROUPS: dict[str, dict[str, str]] = {
    "models": {
        "model_name": "name of the one model of --model_base_path",
        "model_base_path": "directory of a model's numbered versions; the latest is served",
        "model_config_file": "text proto of ModelServerConfig: several models, versions, labels",
        "model_config_file_poll_wait_seconds": "how often that file is read again; 0 is never",
        "file_system_poll_wait_seconds": "how often base paths are searched for versions; 0 is "
        "once, at the start",
        "allow_version_labels_for_unavailable_models": "let a label name a version that is not "
        "loaded yet",
        "enable_model_warmup": "run each version's warm-up requests before it serves",
        "max_num_load_retries": "how often a load that failed is tried again",
        "load_retry_interval_micros": "the time between; negative does not wait",
    },
    "addresses": {
        "host": "address to listen on; tensorflow_model_server has no such flag",
        "port": "of gRPC; 0 takes a free one",
        "grpc_socket_path": "a socket of this machine for gRPC as well",
        "grpc_channel_arguments": "for the gRPC server, such as grpc.max_connection_age_ms=2000",
        "grpc_max_threads": "threads that answer gRPC",
        "ssl_config_file": "text proto of SSLConfig: key, certificate and clients' authority",
    },
    "REST": {
        "rest_api_port": "of REST; 0 is no REST",
        "rest_api_num_threads": "threads that answer REST",
        "rest_api_timeout_in_ms": "how long a model may run for a call; 0 is no limit",
        "rest_api_enable_cors_support": "let pages of other hosts call it",
        "monitoring_config_file": "text proto of MonitoringConfig: where metrics are read",
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
        "tensorflow_intra_op_parallelism": "threads within an operation, in place of that",
        "tensorflow_inter_op_parallelism": "threads between operations, in place of that",
    },
    "about": {"version": "print the versions and end"},
}
"""Group: flag: what it does. The defaults are added from `Options`."""

DESCRIPTION = """\
Serves published models by TensorFlow Serving's API, over gRPC and REST, for development and
tests. The flags are those of tensorflow_model_server, with its names, meanings and defaults.
"""

EXAMPLE = """\
example, one model with both APIs:
  %(prog)s --model_name=cait_xxs24_224 \\
      --model_base_path="$PWD/published/serving/cait_xxs24_224" --rest_api_port=8501

and every model of a published tree:
  %(prog)s --model_config_file=published/serving/models.config

On SIGTERM it answers the calls in flight and ends.
"""
