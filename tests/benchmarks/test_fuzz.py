"""The fuzz run, for seconds, on a tiny model; and a fault that it finds."""

import contextlib
import pathlib
from typing import Any

import hypothesis
import pytest

from benchmarks import fuzz, fuzz_inputs
from signatures.image_header import ImageHeaderError, check_image_header

pytestmark = pytest.mark.slow


def test_a_short_run_has_no_failure(
    tiny_models: dict[Any, pathlib.Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuzz.main(["--minutes=0.03", f"--model={tiny_models['classifier']}"]) == 0
    said = capsys.readouterr().out
    for part in ("images", "predict", "rest"):
        assert f"| {part} | " in said
    assert "answers that a good client lost" in said


def test_a_server_that_ends_is_a_failure(
    tiny_models: dict[Any, pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(server: Any, value: Any) -> str:
        server.process.kill()
        server.process.wait()
        return "OK"

    monkeypatch.setattr(fuzz, "_send_image", end)
    assert fuzz.main(["--minutes=1", "--only=images", f"--model={tiny_models['classifier']}"]) == 1


@hypothesis.settings(database=None, deadline=None, max_examples=50)
@hypothesis.given(fuzz_inputs.images())
def test_made_up_files_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ImageHeaderError):
        assert check_image_header(data) > (0, 0)
