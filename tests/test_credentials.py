"""Credentials in URLs never leave a command: neither by us nor by a library."""

import os
import pathlib
import subprocess
import sys

import pytest

from cait import COMMANDS
from pipelines.evaluate.report import write_evaluation
from serving_configs.__main__ import main as configs
from signatures.addresses import AddressError
from tests.support.hub_server import Hub, serving
from tests.support.path_flags import flags_of, parser_of, read, takes_paths
from tests.support.paths import REPOSITORY

SECRET = "sesame"
URL = f"http://user:{SECRET}@127.0.0.1"

# Urllib3's and the hub library's own notes, as somebody who looks for a fault has them.
LOUD = """
import logging, sys
from signatures.program import run

def main():
    logging.basicConfig(level=logging.DEBUG)
    logging.getLogger("urllib3").debug("Starting new HTTP connection: %s", sys.argv[1])
    from cait import main
    return main(sys.argv[2:])

sys.exit(run(main))
"""

PUBLISH = ("publish", "--sample_shard=tests/data/sample-shard-*")
CALLS = {
    # `{port}` is of a server that has nothing: libraries try again and again to reach one that is
    # not there.
    "hub": (*PUBLISH, "--checkpoints=hf", "--publish_to={here}/tree"),
    "place": (*PUBLISH, "--checkpoints=random", f"--publish_to={URL}/x"),
    "store": (
        *("verify", "s3://bucket/x", f"--s3_endpoint_url={URL}:{{port}}", "--s3_access_key_id=a"),
        *(f"--s3_secret_access_key={SECRET}", "--s3_region_name=x"),
    ),
    "engine": (
        *(*PUBLISH, "--checkpoints=random", "--publish_to={here}/tree", "--shared_disk"),
        *("--runner=FlinkRunner", f"--flink_master={URL}:{{port}}"),
    ),
    "page": ("configs", "write", "{here}", f"--hub_url={URL}"),
}


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_nothing_that_a_command_says_has_them(call: str, tmp_path: pathlib.Path) -> None:
    with serving(Hub("nothing", b"")) as hub:
        port = hub.endpoint.rpartition(":")[2]
        done = said(call, tmp_path, port)
    assert done.returncode == 2, done.stderr
    assert "Starting new HTTP connection: http://***@127.0.0.1/x" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def said(call: str, here: pathlib.Path, port: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        **{"HF_ENDPOINT": f"{URL}:{port}", "HF_DEBUG": "1", "HF_HOME": str(here / "hub")},
    }
    words = [word.format(here=here, port=port) for word in CALLS[call]]
    return subprocess.run(
        [sys.executable, "-c", LOUD, f"{URL}/x", *words],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_path_flags_take_no_passwords(command: str) -> None:
    for flag in filter(takes_paths, flags_of(parser_of(command))):
        for url in (f"https://user:{SECRET}@host/x", f"s3://key:{SECRET}@bucket/x-*"):
            with pytest.raises(AddressError) as refused:
                read(flag, url)
            # `read` puts the name of a photo first, as its user wrote it.
            assert SECRET not in str(refused.value).removeprefix(f"{url}: ")
            assert "***@" in str(refused.value)


@pytest.mark.parametrize("flag", ["--hub_url", "--base_path"])
def test_pages_and_configs_get_none(flag, tmp_path, capsys) -> None:
    assert configs(["write", str(tmp_path), flag, f"{URL}/x"]) == 2
    assert capsys.readouterr().err == (
        f"error: argument {flag}: http://***@127.0.0.1/x: credentials, which everybody would read "
        "in what is written; expected a URL without\n"
    )
    assert not list(tmp_path.iterdir())


def test_an_evaluation_gets_none(tmp_path) -> None:
    write_evaluation([], [f"{URL}/data-*"], str(tmp_path))
    for suffix in ("json", "md"):
        text = (tmp_path / f"evaluation.{suffix}").read_text()
        assert "http://***@127.0.0.1/data-*" in text
        assert SECRET not in text
