"""The trial of other tools: what it says of those that work, differ and fail."""

import pathlib
import sys

import pytest

from benchmarks import onwards
from signatures import Head
from tests.support.arrays import IMAGES

Models = dict[Head, pathlib.Path]

# As the real one, but for what its tools find.
CONVERTERS = """
import json, sys
import numpy as np

directory, images, outputs, *signatures = sys.argv[4:]
with np.load(outputs) as archive:
    names = sorted(archive)
for signature in signatures:
    answer = {"tool": "one", "signature": signature, "difference": 2e-6, "seconds": 1.0}
    print(json.dumps(answer), flush=True)
print(json.dumps({"tool": "two", "signature": "logits", "error": f"{len(names)}", "seconds": 1.0}))
"""


@pytest.mark.slow
def test_every_tool_is_held_to_the_signature(
    tiny_models: Models, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    (tmp_path / "converters.py").write_text(CONVERTERS)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/converters.py - "$@"\n')
    python.chmod(0o755)

    def another(directory: pathlib.Path, signature: str, images: object) -> onwards.Outputs:
        outputs = onwards._keras_3(directory, signature, images)
        return {name: value + 1e-3 for name, value in outputs.items()}

    def failing(directory: pathlib.Path, signature: str, images: object) -> onwards.Outputs:
        raise ValueError("cannot\nbe read")

    # What converters make of `features` is tested beside the writer.
    monkeypatch.setattr(onwards, "SIGNATURES", ("logits", "class_attention"))
    monkeypatch.setitem(onwards._TOOLS, "another", (another, onwards.ATOL))
    monkeypatch.setitem(onwards._TOOLS, "failing", (failing, onwards.ATOL))
    results = onwards.of_model("tiny", tiny_models["classifier"], IMAGES, python)
    found = {result.what: (result.figure, result.holds) for result in results}
    for signature in onwards.SIGNATURES:
        for tool in ("TFLite float32", "TFLite float16", "TFLite dynamic range"):
            assert found[f"tiny {signature}: {tool}"][1], found
        assert found[f"tiny {signature}: Keras 3 TFSMLayer"] == ("0.0e+00", True)
        assert found[f"tiny {signature}: another"] == ("1.0e-03", False)
        assert found[f"tiny {signature}: failing"] == ("ValueError: cannot be read", False)
        assert found[f"tiny {signature}: one"] == ("2.0e-06", True)
    # `logits` has one output, `class_attention` three.
    assert found["tiny logits: two"] == ("4", False)


def test_a_wrong_interpreter_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        onwards.main(["--converters", "no/python"])
    assert ended.value.code == 2
    assert "--converters: no/python is no file; expected a Python" in capsys.readouterr().err
