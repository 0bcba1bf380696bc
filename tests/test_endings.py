"""How commands end: by a signal, without anybody who reads, at a full disk."""

import ast
import contextlib
import errno
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cait import COMMANDS
from export.errors import UserError
from pipelines.runtime.command_line import JobError, one_line_errors
from pipelines.runtime.endings import tells_how_far_it_came
from signatures.program import Interrupted, disk_full
from tests.support.paths import PACKAGES, REPOSITORY


def programs() -> Iterator[pathlib.Path]:
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if '__name__ == "__main__"' in path.read_text(encoding="utf-8"):
                yield path


def test_every_program_ends_the_same_way() -> None:
    found = list(programs())
    assert len(found) == len({entry.module for entry in COMMANDS.values()})
    for path in found:
        last = ast.unparse(ast.parse(path.read_text(encoding="utf-8")).body[-1])
        assert "sys.exit(run(" in last, path


# All commands in one process that forks, because most load for seconds.
OUTPUTS = """
import os, sys
from cait import COMMANDS, main
import importlib
for command in COMMANDS.values():
    importlib.import_module(command.module)
for name in COMMANDS:
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.close(reading)
        os.dup2(writing, 2)
        if sys.argv[1] == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        elif sys.argv[1] == "closed":
            os.close(1)
            sys.stdout = None
        else:
            gone, pipe = os.pipe()
            os.close(gone)
            os.dup2(pipe, 1)
        sys.argv = ["cait", name, "--help"]
        os.close(writing)
        sys.exit(main())
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), repr(text), flush=True)
"""

ENDS = {
    "full": (1, "error: the output cannot be written ([Errno 28] No space left on device)\n"),
    "closed": (0, ""),
    "broken": (141, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("output", ENDS)
def test_output_that_nobody_takes(output: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OUTPUTS, output],
        cwd=REPOSITORY,
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    status, message = ENDS[output]
    lines = done.stdout.splitlines()
    assert lines == [f"{name} {status} {message!r}" for name in COMMANDS], done.stderr


STORE = ("--s3_access_key_id=a", "--s3_secret_access_key=a", "--s3_region_name=x")
BUCKET = ("--s3_endpoint_url=http://{place}", *STORE)
SHARDS = "tests/data/sample-shard-*"
PHOTO = "tests/data/photos/cat.jpg"
# What calls a server that never answers.
WAITING = {
    "publish": (
        *("publish", "--checkpoints=random", f"--sample_shard={SHARDS}"),
        *("--publish_to=s3://bucket/x", *BUCKET),
    ),
    "evaluate": ("evaluate", "--models=s3://bucket/x", f"--data={SHARDS}", *BUCKET),
    "verify": ("verify", "s3://bucket/x", *BUCKET),
    "sample-shard": (
        *("sample-shard", "--images=s3://bucket/x", "--count=1", "--output={here}/s", *BUCKET),
    ),
    "client": ("client", "status", "--model=m", "--server={place}"),
    "attention": ("attention", PHOTO, "--model=m", "--server={place}", "--output={here}/a.png"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", WAITING)
def test_signal_ends_a_command_in_one_line(
    command: str, number: signal.Signals, status: int, tmp_path: pathlib.Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(120)
        place = f"127.0.0.1:{server.getsockname()[1]}"
        words = [word.format(place=place, here=tmp_path) for word in WAITING[command]]
        process = started(*words)
        with contextlib.ExitStack() as stack:
            stack.callback(process.kill)
            # It is at work, and waits.
            stack.enter_context(server.accept()[0])
            process.send_signal(number)
            out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, "")
    assert said.count("\n") == 1, said
    assert said.startswith(f"interrupted by {number.name}; ")
    assert "run the same command again" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("module", ["pipelines.publish", "serving_configs", "serving.client"])
def test_signal_while_a_command_loads(module: str) -> None:
    # The moment is that at which the first package of ours has been loaded.
    script = """
import os, signal, sys
import signatures
from signatures.program import begin_early
sys.argv, sys.orig_argv = ["-m"], [sys.executable, "-m", sys.argv[1]]
begin_early()
os.kill(os.getpid(), signal.SIGTERM)
while True:
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", script, module],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (143, "")
    assert done.stderr == "interrupted by SIGTERM\n"


def test_others_programs_keep_their_signals() -> None:
    script = """
import signal, sys
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
sys.argv, sys.orig_argv = ["-m"], [sys.executable, "-m", "somebody.elses"]
import signatures, export, serving
assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
assert sys.stdout is sys.__stdout__
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True)


def started(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "cait", *words],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in a shell's background, it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def chained(outer: Exception, inner: Exception) -> Exception:
    try:
        try:
            raise inner
        except Exception:
            raise outer from None
    except Exception as error:
        return error


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x")


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (FULL, True),
        (OSError(errno.EDQUOT, "any text"), True),
        (OSError(errno.EFBIG, "any text"), True),
        (RuntimeError("ResourceExhaustedError: /x; No space left on device [while running]"), True),
        (chained(UserError("/x: cannot be written"), FULL), True),
        (OSError(errno.EACCES, "denied"), False),
        (UserError("/x: cannot be written"), False),
    ],
)
def test_full_disk_is_recognised(error: Exception, full: bool) -> None:
    assert disk_full(error) is full


def test_job_at_a_full_disk_says_what_it_has_done(capsys: pytest.CaptureFixture[str]) -> None:
    @one_line_errors
    def main() -> int:
        with tells_how_far_it_came(lambda: "1 of 2 parts are kept", "/tree"):
            raise RuntimeError("No space left on device")

    assert main() == 1
    assert capsys.readouterr().err == (
        "error: /tree: the disk is full; 1 of 2 parts are kept; make room, then run the same "
        "command again\n"
    )


def test_job_that_is_interrupted_says_what_it_has_done() -> None:
    with pytest.raises(Interrupted) as interrupted, tells_how_far_it_came(lambda: "done", "/tree"):
        raise Interrupted(signal.SIGINT)
    assert interrupted.value.left == "done; run the same command again to go on"
    # Whose store cannot be read any more.
    with pytest.raises(JobError), tells_how_far_it_came(lambda: str(1 // 0), "/tree"):
        raise FULL


def test_worker_drops_what_the_command_says(capfd: pytest.CaptureFixture[str]) -> None:
    """As Beam's workers print a traceback, for which nobody asks when a disk is full."""
    script = """
import sys
from signatures.program import disk_full
from signatures.streams import take_messages
take_messages(lambda text: disk_full(RuntimeError(text)))
print("Traceback\\nOSError: No space left on device", file=sys.stderr)
print("at http://user:sesame@host", file=sys.stderr)
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True)
    assert capfd.readouterr().err == "at http://***@host\n"


@pytest.mark.slow
@pytest.mark.parametrize("killed", [True, False])
def test_worker_says_nothing_of_a_run_that_was_killed(tmp_path: pathlib.Path, killed: bool) -> None:
    """It notices that when its connection breaks, shortly before it has another parent."""
    folder = tmp_path / "beam"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "sdk_worker_main.py").write_text(
        """
import logging, sys
import pipelines
print("ready", flush=True)
sys.stdin.read()
logging.error("Failed to read: StatusCode.UNAVAILABLE: Socket closed")
print("ended", flush=True)
"""
    )
    run = """
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-m", "beam.sdk_worker_main"], stdin=subprocess.PIPE)
sys.stdin.read()
worker.communicate(b"")
"""
    with subprocess.Popen(
        [sys.executable, "-c", run],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{tmp_path}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "ready\n"
        if killed:
            process.kill()
        process.stdin.close()
        assert process.stdout.read() == "ended\n"
        assert ("Socket closed" in process.stderr.read()) == (not killed)
