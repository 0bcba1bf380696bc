"""Snippets of the pages, each run in a process of its own that has imported TensorFlow before.

The import takes most of the time of a short snippet. So one process does it, and forks for each.
Run as a program, this file is that process.
"""

import contextlib
import dataclasses
import gc
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Ran:
    """How a snippet ended, and what it wrote."""

    status: int
    out: str
    err: str


Runner = Callable[[str, pathlib.Path, Sequence[pathlib.Path]], Ran]
"""Runs a snippet in a directory. Modules are found there, in more directories, and installed."""


@contextlib.contextmanager
def snippet_runner() -> Iterator[Runner]:
    """A runner for snippets, as a new interpreter would run them."""
    # Isolated from where it is started: nothing of this project is found.
    command = [sys.executable, "-I", __file__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def run(snippet: str, place: pathlib.Path, path: Sequence[pathlib.Path] = ()) -> Ran:
            request = {"snippet": snippet, "place": str(place), "path": list(map(str, path))}
            print(json.dumps(request), file=requests, flush=True)
            return Ran(**json.loads(answers.readline()))

        yield run


def _serve() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow  # noqa: F401
        import tensorflow_hub  # noqa: F401
        import tf_keras  # noqa: F401
    # So that no process that is forked copies them for their counts of references.
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if child == 0:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                os._exit(_run(request))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            out.seek(0)
            err.seek(0)
            answer = {"status": status, "out": out.read(), "err": err.read()}
            print(json.dumps(answer), flush=True)


def _run(request: dict[str, Any]) -> int:
    os.chdir(request["place"])
    sys.path[:0] = ["", *request["path"]]
    status = 0
    try:
        exec(compile(request["snippet"], "<snippet>", "exec"), {"__name__": "__main__"})
    # Whatever it raises is what the test shows.
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    _serve()
