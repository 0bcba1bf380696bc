"""The page's program without a browser: its requests, its own server, its flags."""

import io
import json
import os
import pathlib
import signal
import socket
import stat
import time
import urllib.error
import urllib.request
from concurrent import futures
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.page import command as page
from serving.page.models import names_from
from tests.support.model_server import Running, publish, running
from tests.support.page_process import page_process
from tests.support.requests import predict_request, scan_bomb

pytestmark = pytest.mark.slow


def answer(url: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_requests_that_the_page_does_not_send(
    server: Running, url: str, photo: pathlib.Path
) -> None:
    # A name that someone made to mean this machine.
    assert answer(f"{url}/models", Host="elsewhere.example")[0] == 400
    assert answer(f"{url}/models", Host="localhost:1")[0] == 200
    assert answer(f"{url}/models", Host="[::1]:1")[0] == 200
    assert answer(f"{url}/static/../page.py")[0] == 404
    large = answer(f"{url}/explain?model=cait&version=1", bytes(64 * 1024 * 1024 + 1))
    assert large[0] == 422
    assert "larger than 64 MiB" in large[1]
    whole = photo.read_bytes()
    for path, status, message in (
        ("explain", 400, "model: missing"),
        ("explain?model=cait&version=x", 400, "version: 'x'; expected a number"),
        ("explain?model=cait&version=7", 404, "serves no cait version 7"),
        ("explain?model=nobody&version=1", 404, "serves no nobody version 1"),
        ("self_attention?model=cait&version=1&block=-1", 400, "block: '-1'; expected a number"),
        ("self_attention?model=cait&version=1&block=2", 400, "block 2: 0 to 1"),
        ("self_attention?model=cait&version=1&block=24", 400, "block 24: 0 to 1"),
        ("self_attention?model=cait&version=1&block=2147483647", 400, "block 2147483647: 0 to 1"),
        ("self_attention?model=cait&version=1&block=2147483648", 400, "a number up to 2147483647"),
        (f"explain?model=cait&version={2**63}", 400, f"expected a number up to {2**63 - 1}"),
        (f"explain?model=cait&version={'9' * 5000}", 400, "expected a number up to"),
        ("self_attention?model=cait&version=1&block=1&head=2", 400, "head 2: 0 to 1"),
    ):
        found = answer(f"{url}/{path}", whole)
        assert found[0] == status
        assert message in found[1]


def test_pages_of_other_sites(server: Running, url: str, photo: pathlib.Path) -> None:
    explain, whole = f"{url}/explain?model=cait&version=1", photo.read_bytes()
    for headers in (
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": f"{url}0"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": url},
    ):
        status, text = answer(explain, whole, **headers)
        assert status == 403, headers
        assert "expected a page of this server" in text
    own = {"Origin": url, "Sec-Fetch-Site": "same-origin"}
    assert answer(explain, whole, **own)[0] == 200
    # A link of another site opens the page.
    assert answer(url, None, **{"Sec-Fetch-Site": "cross-site"})[0] == 200


def test_every_answer_says_what_a_browser_may_do_with_it(url: str) -> None:
    for path in ("", "/static/page.js", "/static/page.css", "/colours", "/none", "/static/none"):
        try:
            reply = urllib.request.urlopen(f"{url}{path}", timeout=60)
        except urllib.error.HTTPError as error:
            reply = error
        with reply:
            assert "default-src 'none'" in reply.headers["Content-Security-Policy"], path
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["Cache-Control"] == "no-store"


def test_a_photograph_of_thousands_of_scans(server: Running, url: str) -> None:
    status, text = answer(f"{url}/explain?model=cait&version=1", scan_bomb(3000, 4000))
    assert status == 422
    assert "The image cannot be read: a JPEG with more than 100 scans" in text


def test_a_tall_photograph_keeps_its_surroundings(
    server: Running, url: str, tmp_path: pathlib.Path
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 100), "red").save(file, "PNG")
    status, text = answer(f"{url}/explain?model=cait&version=1", file.getvalue())
    assert status == 200
    assert '"width":32,"height":80,"left":0,"top":24,"size":32' in text


@pytest.mark.parametrize("batching", [True, False], ids=["batching", "no batching"])
def test_a_bad_image_beside_good_ones(
    url: str,
    port: int,
    config: pathlib.Path,
    photo: pathlib.Path,
    tmp_path: pathlib.Path,
    batching: bool,
) -> None:
    flags: dict[str, Any] = {}
    if batching:
        # Long enough for what is sent together to be one batch.
        (tmp_path / "batching.txt").write_text(
            "max_batch_size { value: 8 } batch_timeout_micros { value: 300000 }"
        )
        flags = {
            "enable_batching": True,
            "batching_parameters_file": str(tmp_path / "batching.txt"),
        }
    good = photo.read_bytes()
    short = good[:20_000]
    flags |= {"enable_model_warmup": False, "grpc_max_threads": 32}
    with (
        running(port=port, model_config_file=str(config), **flags) as server,
        futures.ThreadPoolExecutor(8) as pool,
    ):
        explain = f"{url}/explain?model=cait&version=1"
        # Another one each time, as the page keeps those that it was asked for.
        block = f"{url}/self_attention?model=cait&version=1&block={int(batching)}"
        posts = [
            (explain, good),
            (block, good),
            (explain, short),
            (explain, b"no image"),
            (explain, good),
        ]
        found = [pool.submit(answer, *post) for post in posts]
        # Of somebody else, who sends whatever there is.
        inputs = {"image_bytes": np.array([short], object)}
        request = predict_request("cait", inputs, "bytes_class_attention")
        other = server.predictions.Predict.future(request, 60)
        assert "Invalid JPEG data" in other.exception().details()
        one, of_block, cut, text, two = [each.result(120) for each in found]
        assert one[0] == of_block[0] == two[0] == 200, (one, of_block, two)
        first, second = (json.loads(reply[1]) for reply in (one, two))
        assert first["photograph"] == second["photograph"]
        assert [entry["label"] for entry in first["best"]] == [
            entry["label"] for entry in second["best"]
        ]
        assert first["self_attention_blocks"] == second["self_attention_blocks"] == 2
        for status, told in (cut, text):
            assert status == 422
            assert "The image cannot be read: " in told


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_published_tree_is_served_by_a_server_of_its_own(
    tiny_models: dict[Any, pathlib.Path], tmp_path: pathlib.Path, photo: pathlib.Path
) -> None:
    tree = tmp_path / "published"
    (tree / "serving" / "cait").mkdir(parents=True)
    for number in ("1", "2", "3"):
        publish(tree / "serving" / "cait" / number, tiny_models["classifier"])
    # Of a tree that has been moved since.
    (tree / "serving" / "models.config").write_text(
        'model_config_list { config { name: "cait" base_path: "/elsewhere/cait" '
        'model_platform: "tensorflow" model_version_policy { specific { versions: 1 versions: 2 } }'
        ' version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 } } }'
    )
    # A browser that writes down what it is to open.
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/seen\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    with page_process(f"--published={tree}", "--open", BROWSER=f"{script} %s") as (url, process):
        status, text = answer(f"{url}/models")
        while status == 503 or text.count("AVAILABLE") < 2:
            assert "the model server is starting: it loads cait" in text or status == 200
            time.sleep(0.2)
            status, text = answer(f"{url}/models")
        assert json.loads(text)["models"] == [
            {
                "name": "cait",
                "versions": [
                    {"version": 2, "state": "AVAILABLE", "error": "", "labels": ["canary"]},
                    {"version": 1, "state": "AVAILABLE", "error": "", "labels": ["stable"]},
                ],
            }
        ]
        assert answer(f"{url}/explain?model=cait&version=1", photo.read_bytes())[0] == 200
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        (child,) = children.split()
        while not (tmp_path / "seen").exists():
            time.sleep(0.2)
        assert (tmp_path / "seen").read_text() == f"{url}\n"
        # The page says so when its server ends, and does not end with it. Sockets close
        # before a process can be waited for: for that moment it only says that nobody answers.
        os.kill(int(child), signal.SIGKILL)
        end = time.monotonic() + 30
        status, text = answer(f"{url}/models")
        while "no model server answers there" in text or status == 200:
            assert time.monotonic() < end
            time.sleep(0.2)
            status, text = answer(f"{url}/models")
        assert status == 503
        assert "the model server ended with status -9" in text


def test_the_server_ends_with_the_page(
    tiny_models: dict[Any, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "serving" / "cait").mkdir(parents=True)
    publish(tmp_path / "serving" / "cait" / "1", tiny_models["classifier"])
    with page_process(f"--published={tmp_path}") as (_, process):
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        (child,) = children.split()
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert not pathlib.Path(f"/proc/{child}").exists()


def test_names_of_models(config: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert names_from(config) == names_from(config.parent) == ["cait", "cait_fe"]
    (tmp_path / "no_version").mkdir()
    with pytest.raises(ValueError, match="names no model"):
        names_from(tmp_path)


def test_what_is_wrong_with_the_flags_is_said_in_one_line(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "serving" / "cait" / "1").mkdir(parents=True)
    (tmp_path / "text.config").write_text("no config")
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, message in {
            ("--published=x", "--server=y"): "--published starts its own server",
            ("--published=x", "--models_from=y"): "--published names its models itself",
            ("--published=x",): "--published=x: no directory x/serving; run make export",
            ("--published=.", "--models=cait,other"): "--models: other not in serving: cait",
            (): "build/published/serving does not exist; name the server's models with --models",
            ("--models_from=text.config",): "Invalid protobuf file: 'text.config'",
            ("--models=m", "--photograph=none.jpg"): "--photograph=none.jpg: No such file",
            ("--models=m", "--photograph=text.config"): "--photograph=text.config: a file that be",
            ("--models=m", f"--port={port}"): f"--port={port}: Address already in use",
            ("--models=m", "--port=65536"): "--port=65536: not a port",
            ("--models=m", "--host=256.1.1.1"): "--host=256.1.1.1",
            ("--nothing",): "unrecognized arguments: --nothing",
        }.items():
            assert page.main(list(arguments)) == 2, arguments
            told = capsys.readouterr().err
            assert told.startswith("page: ")
            assert message in told
            assert told.count("\n") == 1
