"""The command of the client: what it prints, and one line for what is wrong."""

import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from PIL import Image

from serving.client import Client
from serving.client.command import main
from tests.support.model_server import Running
from tests.support.paths import REPOSITORY

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photos(data: pathlib.Path) -> list[str]:
    return [str(data / "photos" / name) for name in ("cat.jpg", "portrait_tall.jpg")]


@pytest.fixture
def run(served: Running, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the model `cait` of the server that all share."""

    def run(command: str, *arguments: str, model: str = "cait") -> tuple[int, str, str]:
        address = f"localhost:{served.port}"
        capsys.readouterr()
        status = main([command, "--server", address, "--model", model, *arguments])
        return (status, *capsys.readouterr())

    return run


@pytest.mark.slow
def test_classify_prints_the_five_best_of_each_photo(
    run: Run, photos: list[str], served: Running
) -> None:
    status, out, err = run("classify", *photos)
    assert (status, err) == (0, "")
    with Client(f"localhost:{served.port}", "cait") as client:
        expected = client.classify(photos)
    lines = iter(out.splitlines())
    for photo, labels in zip(photos, expected, strict=True):
        assert next(lines) == photo
        for label in labels:
            assert next(lines).split(maxsplit=1) == [f"{label.probability:.4f}", label.label]
    assert list(lines) == []


def test_classify_as_json(run: Run, photos: list[str]) -> None:
    # The same photo twice is answered twice.
    status, out, _ = run("classify", "--json", "--label", "stable", photos[0], photos[0])
    assert status == 0
    one, two = json.loads(out)
    assert one == two
    assert one["image"] == photos[0]
    assert [sorted(entry) for entry in one["classes"]] == [["label", "probability"]] * 5


def test_answers_of_random_weights_say_so(run: Run, photos: list[str], served: Running) -> None:
    mark = " (not trained: the weights are random and the answers mean nothing)"
    _, trained, _ = run("classify", *photos)
    status, out, err = run("classify", *photos, model="random")
    assert (status, err) == (0, "")
    assert out.count(mark) == 2
    assert out.replace(mark, "") == trained
    assert f"{photos[0]}{mark}\n" in out
    _, out, _ = run("classify", "--json", photos[0], model="random")
    (entry,) = json.loads(out)
    assert (list(entry), entry["untrained"]) == (["image", "untrained", "classes"], True)
    assert run("metadata", model="random")[1].startswith("random version 1, not trained\n")


def test_status(run: Run) -> None:
    assert run("status") == (0, "1  AVAILABLE\n", "")
    status, out, _ = run("status", "--json", "--version", "1")
    assert (status, json.loads(out)) == (0, [{"version": 1, "state": "AVAILABLE", "error": ""}])


def test_metadata(run: Run) -> None:
    status, out, err = run("metadata", model="tf1")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "tf1 version 1"
    start = out.splitlines().index("  serving_default  tensorflow/serving/predict")
    assert out.splitlines()[start + 1 : start + 3] == [
        "    in  x  float (?)",
        "    out y  float (?)",
    ]
    _, out, _ = run("metadata", "--json", model="tf1")
    assert json.loads(out)["untrained"] is False
    assert json.loads(out)["signatures"]["serving_default"]["inputs"] == {
        "x": {"dtype": "float", "shape": [None]}
    }


def test_what_the_server_refuses_is_one_line(run: Run, photos: list[str], served: Running) -> None:
    address = f"localhost:{served.port}"
    status, out, err = run("classify", photos[0], model="none")
    assert (status, out, err.count("\n")) == (2, "", 1)
    not_found = "NOT_FOUND: Servable not found for request: Latest(none); the server has no such"
    assert err.startswith(f"client: {address}, model none: {not_found} model or version, or is ")
    status, out, err = run("status", "--label", "x", model="tf1")
    assert (status, out) == (2, "")
    assert "status takes no --label; metadata --label says which version has it" in err


@pytest.fixture
def bad(photos: list[str], tmp_path: pathlib.Path) -> tuple[str, str, str]:
    """No image, one whose data ends too early, which only decoding tells, and one not there."""
    text, short = tmp_path / "text.jpg", tmp_path / "short.jpg"
    text.write_text("no image")
    short.write_bytes(pathlib.Path(photos[0]).read_bytes()[:20_000])
    return str(text), str(short), str(tmp_path / "none.jpg")


def test_photos_beside_bad_ones_are_answered(
    run: Run, photos: list[str], bad: tuple[str, str, str], served: Running
) -> None:
    _, alone, _ = run("classify", *photos)
    text, short, none = bad
    status, out, err = run("classify", text, photos[0], short, none, photos[1])
    assert (status, out) == (2, alone)
    server = f"localhost:{served.port}, model cait: INVALID_ARGUMENT: "
    first, second, third = err.splitlines()
    assert first == (f"client: {text}: a file that begins with b'no image'; expected a JPEG or PNG")
    assert second.startswith(f"client: {short}: {server}")
    assert "Invalid JPEG data" in second
    assert second.endswith("; the file is damaged or cut off")
    assert "node" not in second
    assert third == f"client: {none}: No such file or directory"


def test_photos_beside_bad_ones_as_json(
    run: Run, photos: list[str], bad: tuple[str, str, str]
) -> None:
    text, short, _ = bad
    status, out, err = run("classify", "--json", text, photos[0], short)
    assert (status, err.count("\n")) == (2, 2)
    one, two, three = json.loads(out)
    assert [entry["image"] for entry in (one, two, three)] == [text, photos[0], short]
    assert [list(entry) for entry in (one, two, three)] == [
        ["image", "error"],
        ["image", "classes"],
        ["image", "error"],
    ]
    assert one["error"] == "a file that begins with b'no image'; expected a JPEG or PNG"
    assert "Invalid JPEG data" in three["error"]


@pytest.fixture
def others(photos: list[str], tmp_path: pathlib.Path) -> dict[str, str]:
    """A PNG, and the same pixels in other formats without losses, one by a wrong name."""
    image = Image.open(photos[0]).convert("RGB")
    files = {"PNG": "a.png", "BMP": "b.bmp", "TIFF": "c.tif", "WEBP": "d.jpg"}
    for kind, name in files.items():
        image.save(tmp_path / name, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return {kind: str(tmp_path / name) for kind, name in files.items()}


def test_photos_of_other_formats_are_converted_and_named(
    run: Run, others: dict[str, str], bad: tuple[str, str, str]
) -> None:
    status, out, err = run("classify", *others.values(), bad[0])
    assert status == 2
    # The same pixels have the same answer.
    answers = [block.splitlines()[1:] for block in out.split(str(pathlib.Path(bad[0]).parent))[1:]]
    assert len(answers) == 4
    assert len(answers[0]) == 5
    assert all(answer == answers[0] for answer in answers)
    *notes, problem = err.splitlines()
    assert notes == [
        f"note: {others[kind]}: not a JPEG or PNG but {kind}; sent as a PNG of the same pixels"
        for kind in ("BMP", "TIFF", "WEBP")
    ]
    assert problem.startswith(f"client: {bad[0]}: a file that begins with ")
    _, out, _ = run("classify", "--json", *others.values())
    assert [entry.get("converted_from") for entry in json.loads(out)] == [
        None,
        "BMP",
        "TIFF",
        "WEBP",
    ]


def test_photos_of_other_formats_can_be_refused(run: Run, others: dict[str, str]) -> None:
    status, out, err = run("classify", "--only_jpeg_png", *others.values())
    assert status == 2
    assert out.splitlines()[0] == others["PNG"]
    assert len(out.splitlines()) == 6
    assert err.splitlines() == [
        f"client: {others[kind]}: a {name}; expected a JPEG or PNG"
        for kind, name in (("BMP", "BMP"), ("TIFF", "TIFF"), ("WEBP", "WebP"))
    ]


def test_photos_beside_wrong_paths_are_answered(
    run: Run, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(pathlib.Path(photos[0]).parent))
    status, out, err = run("classify", "~nobody-here/a.jpg", "~/cat.jpg", "s3://bucket/b.jpg")
    assert status == 2
    assert out.splitlines()[0] == "~/cat.jpg"
    assert err.splitlines() == [
        "client: ~nobody-here/a.jpg: no home directory of '~nobody-here'; for a path of that name "
        "write ./~nobody-here/a.jpg",
        "client: s3://bucket/b.jpg: a URL; expected a path of this machine's disk",
    ]


def test_photos_that_are_all_bad_need_no_server(
    bad: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text, _, none = bad
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    assert main(["classify", "--server", address, "--model", "m", text, none]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(": ")[1] for line in err.splitlines()] == [text, none]


@pytest.mark.parametrize("address", ["", "localhost", "localhost:99999", "http://localhost:8500"])
def test_what_is_no_address(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--server", address, "--model", "m"]) == 2
    assert capsys.readouterr() == (
        "",
        f"client: {address!r}: not an address; expected host:port, such as localhost:8500\n",
    )


@pytest.mark.slow
def test_a_server_of_something_else(capfd: pytest.CaptureFixture[str]) -> None:
    """One that speaks HTTP of another version, as the REST port does."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        status = main(["status", "--server", address, "--model", "m", "--timeout", "20"])
        server.shutdown()
    out, err = capfd.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"client: {address}, model m: UNAVAILABLE: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jpg"], "none.jpg: No such file or directory"),
        (["."], ".: Is a directory"),
        ([], "the following arguments are required: PHOTO"),
        (["--timeout", "nan", "x"], "argument --timeout: not a number of seconds: 'nan'"),
        (["--version", "1", "--label", "a", "x"], "argument --label: not allowed with argument"),
        (["--ca", "x", "x"], "--ca, --cert, --key and --tls_server_name need --tls"),
        (["--por", "x"], "unrecognized arguments: --por"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["classify", "--model", "m", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"client: {message}")


@pytest.mark.slow
def test_no_server_from_a_shell(photos: list[str]) -> None:
    """Nothing of TensorFlow's or gRPC's own is printed beside the line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    command = [
        *(sys.executable, "-m", "serving.client", "classify"),
        *("--server", address, "--model", "m", photos[0]),
    ]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"client: {address}, model m: UNAVAILABLE: ")
    assert "refused" in done.stderr


def test_wrong_arguments_do_not_wait_for_tensorflow() -> None:
    script = (
        "import sys; from serving.client.command import main\n"
        "status = main(['classify', '--model', 'm', 'none.jpg'])\n"
        "print(status, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (
        "2 False\n",
        "client: none.jpg: No such file or directory\n",
    )
