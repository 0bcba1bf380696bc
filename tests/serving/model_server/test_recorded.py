"""Every recorded call: what a real server answered, and what this one does.

Of a call that was refused that is the code or the status, and the whole text.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from tests.support.model_server import Running, running
from tests.support.recorded import REPLY_LIMIT, comparable, grpc_request, lines, rest_body
from tests.support.rest_calls import call
from tests.support.trees import Result

MODELS = ("cait_xxs24_224", "cait_xxs24_224_fe")
GRPC, REST = lines("grpc"), lines("rest")
PARSE_ERROR = '{\n    "error": "JSON Parse error: '
# Bodies that are no JSON, of which the words of the library that reads it are said.
OWN_WORDS = ["{"]


@pytest.fixture(scope="module")
def server(published: Result, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two versions of what is published, labelled, as the real server had them."""
    assert published.status == 0, published.stderr
    root = tmp_path_factory.mktemp("recorded")
    configs = []
    for model in MODELS:
        (root / model).mkdir()
        for version in ("1", "2"):
            (root / model / version).symlink_to(published.tree / "serving" / model / "1")
        configs.append(_config(model, root / model))
    (root / "models.config").write_text(f"model_config_list {{ {' '.join(configs)} }}")
    with running(
        model_config_file=str(root / "models.config"),
        allow_version_labels_for_unavailable_models=True,
        enable_model_warmup=False,
        rest=True,
    ) as server:
        for model in MODELS:
            server.until(model, {2: "AVAILABLE", 1: "AVAILABLE"}, 60)
        yield server


def _config(model: str, base: pathlib.Path) -> str:
    labels = {"stable": 1, "canary": 2}
    return (
        f'config {{ name: "{model}" base_path: "{base}" model_platform: "tensorflow" '
        "model_version_policy { all {} } "
        + " ".join(
            f'version_labels {{ key: "{label}" value: {version} }}'
            for label, version in labels.items()
        )
        + " }"
    )


def test_all_that_was_recorded_is_there() -> None:
    assert (len(GRPC), len(REST)) == (95, 50)
    assert all("message" in line for line in GRPC if line["code"] != "OK")
    assert all("reply" in line for line in REST if line["status"] >= 400)
    said = [line["body_begins"] for line in REST if line.get("reply", "").startswith(PARSE_ERROR)]
    assert said == ["", *OWN_WORDS]


def test_messages_that_differ_are_told_apart() -> None:
    messages = {line["message"] for line in GRPC if "message" in line}
    assert len({comparable(message) for message in messages}) == len(messages)


@pytest.mark.parametrize("line", GRPC, ids=[line["case"].replace(" ", "-") for line in GRPC])
def test_grpc(server: Running, line: dict[str, Any]) -> None:
    service = server.models if line["method"] == "GetModelStatus" else server.predictions
    method = getattr(service, line["method"])
    if line["code"] != "OK":
        with pytest.raises(grpc.RpcError) as caught:
            method(grpc_request(line), 120)
        error: Any = caught.value
        assert error.code().name == line["code"]
        assert comparable(error.details()) == comparable(line["message"])
        return
    reply = method(grpc_request(line), 120)
    if "reply" in line:
        assert json_format.MessageToDict(reply, preserving_proto_field_name=True) == line["reply"]


def _name(line: dict[str, Any]) -> str:
    path = line["path"].removeprefix("/v1/models/")
    return f"{line['method']} {path} {line['body_begins'][:45]}".replace(" ", "-")


@pytest.mark.parametrize("line", REST, ids=[_name(line) for line in REST])
def test_rest(server: Running, line: dict[str, Any]) -> None:
    reply = call(server.rest_port, line["method"], line["path"], rest_body(line) or None)
    assert reply.status == line["status"]
    if line["status"] < 400:
        return
    recorded = comparable(line["reply"])
    if line["body_begins"] in OWN_WORDS:
        assert reply.text.startswith(PARSE_ERROR)
    elif len(line["reply"]) < REPLY_LIMIT:
        assert comparable(reply.text) == recorded
    else:
        assert comparable(reply.text).startswith(recorded)
