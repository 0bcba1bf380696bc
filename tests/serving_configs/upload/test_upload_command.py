"""The command `upload`, whichever the hub."""

import os
import pathlib
import subprocess
import sys

import pytest

from serving_configs.__main__ import main
from tests.support.paths import REPOSITORY


@pytest.mark.parametrize(
    ("hub_name", "library"), [("hf", "huggingface_hub"), ("kaggle", "kagglehub")]
)
def test_a_library_that_is_not_installed_is_named(
    hub_name: str,
    library: str,
    small_tree: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["upload", hub_name, str(small_tree), "--owner", "team"]) == 2
    assert capsys.readouterr().err == (
        f"error: upload {hub_name}: {library} is not installed; run pip install "
        "'cait-serving[upload]'\n"
    )


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--owner", "a/b"], "error: --owner 'a/b'; expected the name in the addresses of its"),
        (["--owner", "a", "--model", "n"], "error: --model n: not published in "),
    ],
)
def test_wrong_flags_are_one_line(
    flags: list[str],
    expected: str,
    small_tree: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for hub_name in ("hf", "kaggle"):
        capsys.readouterr()
        assert main(["upload", hub_name, str(small_tree), *flags]) == 2
        message = capsys.readouterr().err
        assert message.startswith(expected)
        assert message.count("\n") == 1


def test_the_libraries_are_loaded_for_an_upload_alone(small_tree: pathlib.Path) -> None:
    code = (
        "import sys; from serving_configs.__main__ import main; "
        f"assert main(['status', {str(small_tree)!r}]) == 0; "
        "assert main(['write', sys.argv[1]]) == 0; "
        "assert main(['upload', 'hf', sys.argv[1], '--owner', '/']) == 2; "
        "print(sorted({'kagglehub', 'kagglesdk', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(small_tree)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
