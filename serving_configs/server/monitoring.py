"""`monitoring.config`: Prometheus metrics of a server, at its REST port."""

METRICS_PATH = "/monitoring/prometheus/metrics"
"""TF Serving's default path of the metrics."""

MONITORING_TEXT = f'prometheus_config {{ enable: true path: "{METRICS_PATH}" }}\n'
"""A `MonitoringConfig` of monitoring_config.proto, which tensorflow-serving-api lacks."""
