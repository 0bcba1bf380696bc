"""The metrics: their page over HTTP, the names of TF Serving, and what is counted."""

import pathlib
import re
import shutil
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.errors import Code, ServingError
from serving.model_server.monitoring import Metrics, metrics_path
from serving_configs.server.monitoring import METRICS_PATH, MONITORING_TEXT
from tests.support.model_server import Running, publish, running
from tests.support.requests import predict_log, write_requests
from tests.support.rest_calls import call, post

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def values(server: Running, path: str = METRICS_PATH) -> Values:
    """Every number of the page, as a reader of the format finds them."""
    reply = call(server.rest_port, "GET", path)
    assert (reply.status, reply.headers["content-type"].split(";")[0]) == (200, "text/plain")
    return {
        # The parser gives counters this ending, whatever they are called.
        (sample.name.removesuffix("_total"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def value(page: Values, name: str, **labels: str) -> float:
    return page.get((name, frozenset(labels.items())), 0)


def test_requests_are_counted_and_timed(served: Running) -> None:
    count, latency = ":tensorflow:serving:request_count", ":tensorflow:serving:request_latency"
    before = values(served)
    post(served.rest_port, "/v1/models/tf1:predict", {"instances": [1.0]})
    call(served.rest_port, "POST", "/v1/models/tf1:predict", "{")
    call(served.rest_port, "POST", "/v1/models/none:predict", {"instances": [1.0]})
    call(served.rest_port, "GET", "/v1/models/tf1")
    call(served.rest_port, "GET", "/v1/nothing")
    served.states("tf1")
    served.predict("tf1", {"x": np.array([2], np.float32)})
    with pytest.raises(grpc.RpcError):
        served.predict("tf1", {})
    after = values(served)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    # REST calls count whatever they ask, gRPC calls that run a model alone.
    assert grown(count, model_name="tf1", status="OK") == 3
    assert grown(count, model_name="tf1", status="INVALID_ARGUMENT") == 2
    assert grown(count, model_name="none", status="NOT_FOUND") == 1
    assert grown(count, model_name="", status="INVALID_ARGUMENT") == 1
    for api, entrypoint in (("predict", "REST"), ("", "REST"), ("Predict", "GRPC")):
        labels = {"model_name": "tf1", "API": api, "entrypoint": entrypoint}
        assert grown(f"{latency}_count", **labels) == 1
        assert grown(f"{latency}_bucket", **labels, le="+Inf") == 1
        # Microseconds.
        assert 10 < grown(f"{latency}_sum", **labels) < 600e6


def test_the_text_is_that_of_the_real_server(served: Running) -> None:
    post(served.rest_port, "/v1/models/tf1:predict", {"instances": [1.0]})
    text = call(served.rest_port, "GET", METRICS_PATH).text
    assert "# TYPE :tensorflow:serving:request_count counter\n" in text
    assert re.search(
        r'^:tensorflow:serving:request_count\{model_name="tf1",status="OK"\} \d+$', text, re.M
    )
    # The limits of the buckets, in six digits, which dashboards name.
    start = ':tensorflow:serving:request_latency_bucket{model_name="tf1",API="predict",'
    limits = re.findall(re.escape(start) + r'entrypoint="REST",le="(.*)"\}', text)
    assert len(limits) == 34
    assert limits[:4] == ["10", "18", "32.4", "58.32"]
    assert "708235" in limits
    assert limits[-1] == "+Inf"


def test_loads_and_warm_up(tmp_path: pathlib.Path, half_plus: Callable[..., pathlib.Path]) -> None:
    base = tmp_path / "m"
    base.mkdir()
    source = shutil.copytree(half_plus(2.0, "tf2"), tmp_path / "source")
    write_requests(source, predict_log())
    publish(base / "2", source)
    config = tmp_path / "monitoring.config"
    config.write_text('prometheus_config { enable: true path: "/numbers" }')
    models = tmp_path / "models.config"
    models.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{base}" '
        'model_platform: "tensorflow" model_version_policy { all {} } } }'
    )
    with running(
        model_config_file=str(models),
        rest=True,
        monitoring_config_file=str(config),
    ) as server:
        # Later: a server does not come up with a version that fails.
        (base / "1").mkdir()
        server.until("m", {2: "AVAILABLE", 1: "END"})
        page = values(server, "/numbers")
        assert call(server.rest_port, "GET", METRICS_PATH).status == 404
        assert call(server.rest_port, "GET", "/numbers?x").text == (
            "Unexpected path: /numbers?x. Should be /numbers"
        )
    attempts = ":tensorflow:cc:saved_model:load_attempt_count"
    assert value(page, attempts, model_path=str(base / "1"), status="fail") == 1
    assert value(page, attempts, model_path=str(base / "2"), status="success") == 1
    assert value(page, ":tensorflow:cc:saved_model:load_latency", model_path=str(base / "2")) > 0
    warm_up = ":tensorflow:serving:model_warmup_latency_count"
    assert value(page, warm_up, model_path=str(base / "2"), status="OK") == 1


def test_without_a_config_there_are_none(
    tmp_path: pathlib.Path, half_plus: Callable[..., pathlib.Path]
) -> None:
    (tmp_path / "m").mkdir()
    publish(tmp_path / "m" / "1", half_plus())
    with running(model_base_path=str(tmp_path / "m"), rest=True) as server:
        assert call(server.rest_port, "GET", METRICS_PATH).status == 404


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", None),
        ("prometheus_config {}", None),
        ('prometheus_config { enable: false path: "/x" }', None),
        ("prometheus_config { enable: true }", METRICS_PATH),
        ('prometheus_config { enable: true path: "/x" }', "/x"),
        (MONITORING_TEXT, METRICS_PATH),
    ],
)
def test_configs(tmp_path: pathlib.Path, text: str, path: str | None) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    assert metrics_path(str(file)) == path
    assert metrics_path("") is None


@pytest.mark.parametrize(
    "text",
    [None, "prometheus_config {", "enable: true", 'prometheus_config { enable: true path: "x" }'],
)
def test_configs_that_are_none(tmp_path: pathlib.Path, text: str | None) -> None:
    file = tmp_path / "monitoring.config"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ServingError, match=r"monitoring\.config") as caught:
        metrics_path(str(file))
    assert "\n" not in caught.value.message


def test_a_warm_up_that_failed() -> None:
    metrics = Metrics()
    metrics.warm_up("/m/1", ServingError(Code.NOT_FOUND, "no signature"), 1.0)
    labels = 'model_path="/m/1",status="NOT_FOUND: no signature"'
    assert f":tensorflow:serving:model_warmup_latency_count{{{labels}}} 1\n" in metrics.page()


def test_names_that_clients_choose() -> None:
    metrics = Metrics()
    metrics.request('a"\\\nb' + "x" * 10_000, "predict", "REST", Code.NOT_FOUND, 1.0)
    page = metrics.page()
    (line,) = [line for line in page.splitlines() if line.startswith(":tensorflow:serving:requ")]
    assert line.startswith(r':tensorflow:serving:request_count{model_name="a\"\\\nbxxx')
    assert len(line) < 400


def test_names_of_a_flood_are_counted_together() -> None:
    served = {f"model_{number}" for number in range(150)}
    metrics = Metrics(served.__contains__)
    for number in range(20_000):
        metrics.request(f"none_{number}", "predict", "GRPC", Code.NOT_FOUND, 1.0)
    # A model of the server is counted by its name, whatever was sent before.
    for name in served:
        metrics.request(name, "predict", "GRPC", Code.OK, 1.0)
    for number in range(5_000):
        metrics.load(f"/none/{number}", ServingError(Code.NOT_FOUND, "none"), 1.0)
        metrics.warm_up("/m/1", ServingError(Code.NOT_FOUND, str(number)), 1.0)
    page = metrics.page()
    count = ":tensorflow:serving:request_count"
    assert f'{count}{{model_name="none_99",status="NOT_FOUND"}} 1\n' in page
    assert f'{count}{{model_name="(other)",status="NOT_FOUND"}} 19900\n' in page
    assert f'{count}{{model_name="model_149",status="OK"}} 1\n' in page
    counted = [line for line in page.splitlines() if line.startswith(f"{count}{{")]
    assert len(counted) == 100 + 1 + 150
    attempts = ":tensorflow:cc:saved_model:load_attempt_count"
    assert f'{attempts}{{model_path="(other)",status="fail"}} 3001\n' in page
    # Each cause has 34 buckets.
    warm_up = ":tensorflow:serving:model_warmup_latency_count"
    assert f'{warm_up}{{model_path="/m/1",status="NOT_FOUND: 99"}} 1\n' in page
    assert f'{warm_up}{{model_path="/m/1",status="(other)"}} 4900\n' in page
