"""`monitoring.config`: Prometheus metrics of a server, beside its REST API."""

import pathlib

from ..tree.paths import serving_root

METRICS_PATH = "/monitoring/prometheus/metrics"
"""TF Serving's default path of the metrics."""

# `MonitoringConfig` of monitoring_config.proto, which tensorflow-serving-api does not carry.
MONITORING_CONFIG = f'prometheus_config {{ enable: true path: "{METRICS_PATH}" }}\n'


def monitoring_config_path(publish_to: str) -> pathlib.Path:
    """Where the file of a published tree is."""
    return serving_root(publish_to) / "monitoring.config"
