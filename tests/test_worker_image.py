"""The image for workers, as far as that can be told without Docker."""

import re

from tests.support.paths import REPOSITORY

DOCKERFILE = (REPOSITORY / "docker" / "worker.Dockerfile").read_text(encoding="utf-8")


def test_beam_is_that_of_the_lock() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    (locked,) = re.findall(r"^apache-beam==(\S+)", lock, re.MULTILINE)
    assert re.findall(r"^FROM apache/beam_python3\.11_sdk:(\S+)", DOCKERFILE, re.MULTILINE) == [
        locked
    ]
    assert re.findall(r"apache-beam\[\$EXTRAS\]==([\d.]+)", DOCKERFILE) == [locked]


def test_what_is_copied_is_in_the_context() -> None:
    (copied,) = re.findall(r"^COPY (?!--from)(.+) /tmp/packages/$", DOCKERFILE, re.MULTILINE)
    assert copied.split() == ["requirements.lock", "build/wheels/cait_serving-*.whl"]
    ignored = REPOSITORY / "docker" / "worker.Dockerfile.dockerignore"
    assert ignored.read_text(encoding="utf-8").split() == [
        "*",
        "!requirements.lock",
        "!build/wheels",
    ]


def test_commands_name_files_that_are_there() -> None:
    page = (REPOSITORY / "docker" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    wheel, build, push = block.splitlines()
    assert wheel == "make wheel"
    assert "\nwheel: " in (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (tag,) = re.findall(r"--file docker/worker\.Dockerfile --tag (\S+) \.$", build)
    assert push == f"docker push {tag}"
    assert f"--sdk_container_image={tag}`" in page
