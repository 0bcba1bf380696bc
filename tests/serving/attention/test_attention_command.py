"""The command `serving.attention`."""

import pathlib
import socket
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from serving.attention import command as attention
from serving.attention.models import AttentionError
from serving.attention.served import served_model
from tests.support.model_server import Running, publish, running

pytestmark = pytest.mark.slow


@pytest.fixture
def photo(data: pathlib.Path) -> str:
    return str(data / "photos" / "portrait_tall.jpg")


def test_the_command_asks_a_server(
    served: Running, photo: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.svg"
    command = [photo, f"--server=localhost:{served.port}", "--model=cait", f"--output={output}"]
    assert attention.main(command) == 0
    assert capsys.readouterr().out == f"attention: {output}\n"
    text = output.read_text()
    assert "portrait_tall.jpg, cait version 1" in text
    assert "Self-attention" not in text
    assert "not trained" not in text
    assert list(tmp_path.iterdir()) == [output]
    other = tmp_path / "photo.webp"
    Image.open(photo).save(other)
    assert attention.main([str(other), *command[1:]]) == 0
    note = f"note: {other}: not a JPEG or PNG but WEBP; taken as a PNG of the same pixels\n"
    assert capsys.readouterr().err == note
    command[2] = "--model=random"
    assert attention.main(command) == 0
    warning = "not trained: the weights are random and the answers mean nothing"
    assert capsys.readouterr().err == f"note: random version 1: {warning}\n"
    assert warning in output.read_text()


def test_the_command_reads_a_saved_model(
    tiny_models: dict[Any, pathlib.Path], photo: str, tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "a.svg"
    for head, told in {"classifier": "Top 5", "features": "it names no classes"}.items():
        command = [photo, f"--saved_model={tiny_models[head]}", f"--output={output}"]
        assert attention.main([*command, "--self_attention=1", "--patch=1,0"]) == 0
        assert told in output.read_text()
        assert "Self-attention block 1, from the patch in row 1, column 0" in output.read_text()
    output = tmp_path / "a.PNG"
    command = [photo, f"--saved_model={tiny_models['classifier']}", f"--output={output}"]
    assert attention.main(command) == 0
    assert Image.open(output).format == "PNG"


def test_what_is_wrong_is_said_in_one_line(
    served: Running,
    half_plus: Callable[..., pathlib.Path],
    photo: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    server = f"--server=localhost:{served.port}"
    cait = (server, "--model=cait")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"localhost:{taken.getsockname()[1]}"
        for arguments, message in {
            (photo,): "--model NAME (of a server) or --saved_model DIR is needed",
            (photo, "--model=cait", "--saved_model=x"): "--saved_model goes without --server",
            (photo, *cait, "--patch=0,0"): "--self_attention and --patch are needed together",
            (photo, *cait, "--patch=0;0"): "not ROW,COL: '0;0'",
            (photo, *cait, "--output=x.jpg"): "--output=x.jpg: the name has to end in .png or .svg",
            (photo, *cait, "--output=no/x.png"): "no such directory: no",
            ("none.jpg", *cait): "none.jpg: No such file or directory",
            (
                f"{tmp_path}/text.jpg",
                *cait,
            ): "text.jpg: a file that begins with b'no image'; expected a JPEG or PNG",
            (photo, *cait, "--model_version=7"): "serves no cait version 7",
            (photo, *cait, "--label=x"): "label: x; a server knows the labels of its models.config",
            (photo, *cait, "--label=x", "--model_version=1"): "--model_version: not allowed with",
            (photo, "--saved_model=x", "--label=x"): "--saved_model goes without --server",
            (photo, server, "--model=tf2"): "tf2: no signature self_attention",
            (photo, server, "--model=nobody"): "serves no nobody: Servable not found",
            (photo, f"--server={nobody}", "--model=m"): f"{nobody}: no model server answers there",
            (photo, *cait, "--self_attention=2", "--patch=0,0"): "--self_attention=2: 0 to 1",
            (photo, *cait, "--self_attention=1", "--patch=0,2"): "--patch: patch 0,2: this model's",
            (photo, f"--saved_model={tmp_path}"): "Could not find SavedModel",
            (photo, f"--saved_model={half_plus(2.0)}"): "no signature self_attention",
        }.items():
            output = (
                () if any("--output" in a for a in arguments) else (f"--output={tmp_path}/a.png",)
            )
            assert attention.main([*arguments, *output]) == 2, arguments
            told = capsys.readouterr().err
            assert message in told
            assert told.startswith("attention: ")
            assert told.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text.jpg"]


def test_a_version_that_is_still_loading_is_told_from_one_that_is_not_there(
    tiny_models: dict[Any, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "cait").mkdir()
    publish(tmp_path / "cait" / "1", tiny_models["classifier"])
    flags: Any = {"max_num_load_retries": 1, "load_retry_interval_micros": 600_000_000}
    with running(model_name="cait", model_base_path=str(tmp_path / "cait"), **flags) as server:
        # Its load fails, and it stays in loading until it is tried again.
        (tmp_path / "cait" / "2").mkdir()
        server.until("cait", {1: "AVAILABLE", 2: "LOADING"})
        address = f"localhost:{server.port}"
        for version, kind, message in (
            (2, "loading", "is still loading cait version 2; try again soon"),
            (3, "missing", "serves no cait version 3"),
        ):
            with pytest.raises(AttentionError) as caught, served_model(address, "cait", version):
                pass
            assert caught.value.kind == kind
            assert message in str(caught.value)
        with served_model(address, "cait") as model:
            assert model.version == 1
