"""Metrics of a server as text for Prometheus.

Names, labels, units (microseconds) and layout are those of the real server, so that dashboards and
alerts for it work here.

Source: `prometheus_exporter.cc`, `servables/tensorflow/util.cc` and `saved_model_warmup_util.cc`
of tensorflow/serving, tensorflow/cc/saved_model/loader.cc.
"""

import threading
from collections.abc import Callable
from typing import Any

import prometheus_client
from prometheus_client.metrics import MetricWrapperBase

from serving_configs.server.monitoring import METRICS_PATH

from ..errors import Code, error_from, invalid_argument
from ..text_proto import message_class, read_text_proto

_MonitoringConfig = message_class(
    "MonitoringConfig",
    """
    message PrometheusConfig {
      bool enable = 1;
      string path = 2;
    }
    message MonitoringConfig {
      PrometheusConfig prometheus_config = 1;
    }
    """,
)
# From 10 microseconds to about 20 minutes.
_BUCKETS = [10 * 1.8**power for power in range(33)]
_COUNTED = ("Predict", "Classify", "Regress")
# A label comes from the client, for example the name of an unknown model.
_LONGEST_LABEL = 256
# Labels that anyone can make up, such as the name of a model that there is not, and the others.
_MOST_MADE_UP = 100
_MOST_LABELS = 2000
OTHER = "(other)"
"""The label of what is counted together, once there are very many names."""


def metrics_path(config_file: str) -> str | None:
    """The path of the metrics that a `MonitoringConfig` names, or None if it enables none.

    Args:
        config_file: path of the text file; "" enables none.

    Raises:
        ServingError: the file cannot be read or is not a `MonitoringConfig`.
    """
    if not config_file:
        return None
    config = read_text_proto(config_file, _MonitoringConfig()).prometheus_config
    if not config.enable:
        return None
    if config.path and not config.path.startswith("/"):
        raise invalid_argument(f"{config_file}: path: {config.path!r} does not begin with a slash")
    return str(config.path or METRICS_PATH)


class _Labels:
    """Keeps labels that clients choose to a number. Threads may share it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, label: str) -> str:
        """The label, or `OTHER` once there are very many."""
        label = label[:_LONGEST_LABEL]
        with self._lock:
            if label not in self._seen and len(self._seen) >= self._most:
                return OTHER
            self._seen.add(label)
            return label


class Metrics:
    """The metrics of one server. Threads may share them.

    Args:
        serves: whether the server has a model of a name. The others are counted by name up to a
            number, and then together, so that a client cannot fill the memory with names.
    """

    def __init__(self, serves: Callable[[str], bool] = lambda _: False) -> None:
        self._serves = serves
        self._known, self._unknown = _Labels(_MOST_LABELS), _Labels(_MOST_MADE_UP)
        self._paths, self._causes = _Labels(_MOST_LABELS), _Labels(_MOST_MADE_UP)
        registry = prometheus_client.CollectorRegistry()

        def named(kind: type[Any], name: str, *labels: str, **rest: Any) -> Any:
            return kind(name, name, labels, registry=registry, **rest)

        counter, histogram = prometheus_client.Counter, prometheus_client.Histogram
        self._requests = named(counter, ":tensorflow:serving:request_count", "model_name", "status")
        self._latency = named(
            histogram,
            ":tensorflow:serving:request_latency",
            "model_name",
            "API",
            "entrypoint",
            buckets=_BUCKETS,
        )
        self._warm_up = named(
            histogram,
            ":tensorflow:serving:model_warmup_latency",
            "model_path",
            "status",
            buckets=_BUCKETS,
        )
        self._load_attempts = named(
            counter, ":tensorflow:cc:saved_model:load_attempt_count", "model_path", "status"
        )
        self._load_latency = named(counter, ":tensorflow:cc:saved_model:load_latency", "model_path")
        self._all: list[MetricWrapperBase] = [
            self._load_attempts,
            self._load_latency,
            self._warm_up,
            self._requests,
            self._latency,
        ]

    def request(self, model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None:
        """Counts an answered request, and its time if it succeeded.

        Args:
            model: name of the model in the request.
            api: name of the call; "" for a call that runs no model.
            entrypoint: `GRPC` or `REST`.
            code: code of the answer.
            seconds: from the request to the answer.
        """
        model = (self._known if self._serves(model) else self._unknown)(model)
        self._requests.labels(model, code.name).inc()
        if code == Code.OK:
            self._latency.labels(model, api, entrypoint).observe(seconds * 1e6)

    def grpc_call(self, name: str, request: Any, code: Code, seconds: float) -> None:
        """Counts a gRPC call, if it is one of the three that the real server counts."""
        if name in _COUNTED:
            model = request.model_spec.name if request is not None else ""
            self.request(model, name, "GRPC", code, seconds)

    def rest_call(self, model: str, api: str, code: Code, seconds: float) -> None:
        """Counts a REST call."""
        self.request(model, api, "REST", code, seconds)

    def load(self, directory: str, error: Exception | None, seconds: float) -> None:
        """Counts a load of a SavedModel."""
        directory = self._paths(directory)
        self._load_attempts.labels(directory, "fail" if error else "success").inc()
        if error is None:
            self._load_latency.labels(directory).inc(int(seconds * 1e6))

    def warm_up(self, directory: str, error: Exception | None, seconds: float) -> None:
        """Times a warm-up; as in the real server, the label `status` has the error's message."""
        status = "OK" if error is None else str(error_from(error))
        self._warm_up.labels(self._paths(directory), self._causes(status)).observe(seconds * 1e6)

    def page(self) -> str:
        """All metrics as text.

        prometheus_client's own text has other names for counters (`..._total`) and bucket limits.
        """
        lines = []
        for metric in self._all:
            for family in metric.collect():
                lines.append(f"# TYPE {family.name} {family.type}")
                for sample in family.samples:
                    if not sample.name.endswith("_created"):
                        name = sample.name
                        if family.type == "counter":
                            name = family.name
                        labels = ",".join(
                            f'{label}="{_escaped(label, value)}"'
                            for label, value in sample.labels.items()
                        )
                        lines.append(f"{name}{{{labels}}} {sample.value:.16g}")
        return "\n".join(lines) + "\n"


def _escaped(label: str, value: str) -> str:
    if label == "le" and value != "+Inf":
        return f"{float(value):g}"
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
