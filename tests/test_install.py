"""The project as somebody has it who installed it: from a wheel, far from the source."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator

import pytest

from cait import COMMANDS, main
from tests.support.paths import PACKAGES, REPOSITORY
from tests.support.wheel import build_wheel

TINY = "cait_tiny_32"
PARTS = [
    *(f"configs {name}" for name in ("write", "promote", "rollback", "label", "extract")),
    *(f"configs {name}" for name in ("status", "sign", "upload hf", "upload kaggle")),
    *(f"client {name}" for name in ("classify", "status", "metadata")),
]
Installed = Callable[..., "subprocess.CompletedProcess[str]"]

# What TensorFlow and the libraries below it say of themselves.
OWN_LINES = re.compile(
    r"oneDNN|cuda|CUDA|cpu_feature_guard|absl::|\bretracing\b|^[IWEF]\d{4} |: [IWEF] \w+/",
    re.MULTILINE,
)

# The smallest of the variants takes minutes.
PUBLISH = f"""
import sys, cait
from export.variants import VARIANTS, CaiTConfig, Variant
config = CaiTConfig(32, 16, 32, 2, 2, num_classes=1000)
VARIANTS[{TINY!r}] = Variant({TINY!r}, config, 0, 2.5, 78.5, 94.2, "")
sys.exit(cait.main(["publish", "--variants", {TINY!r}, "--heads", "classifier", *sys.argv[1:]]))
"""
PLACES = f"""
import importlib
for name in ["cait", *{PACKAGES!r}]:
    print(importlib.import_module(name).__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return build_wheel(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def program(wheel: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """`cait` in an environment of its own, which has nothing of ours but the wheel."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    pip(str(home / "bin" / "python"), "install", str(wheel))
    # TensorFlow is the one that is here already: installing it takes minutes.
    (places,) = home.glob("lib/*/site-packages")
    (places / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin" / "cait"


def pip(python: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", python, "--quiet", *arguments]
    subprocess.run([*command, "--no-index", "--no-deps"], check=True)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory that has things by the names of our packages, as many have."""
    place = tmp_path_factory.mktemp("elsewhere")
    for name in PACKAGES:
        (place / name).mkdir()
        (place / name / "__init__.py").write_text("raise ImportError('somebody else's')\n")
    return place


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "TF_CPP_MIN_LOG_LEVEL")
    return {name: value for name, value in os.environ.items() if name not in ours}


@pytest.fixture(scope="module")
def run(
    program: pathlib.Path, elsewhere: pathlib.Path, environment: dict[str, str]
) -> Iterator[Installed]:
    def run(*arguments: str, script: str = "") -> "subprocess.CompletedProcess[str]":
        # -P, or a script's working directory would be searched first.
        start = [program.with_name("python"), "-P", "-c", script] if script else [program]
        return subprocess.run(
            [*map(str, start), *arguments],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    yield run
    assert sorted(path.name for path in elsewhere.iterdir() if path.name in PACKAGES) == sorted(
        PACKAGES
    )


@pytest.fixture(scope="module")
def tree(
    run: Installed, data: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """Published by what is installed."""
    tree = tmp_path_factory.mktemp("published") / "tree"
    shard = str(data / "sample-shard-00000-of-00002")
    flags = ["--checkpoints", "random", "--sample_shard", shard, "--publish_to", str(tree)]
    done = run(*flags, script=PUBLISH)
    assert done.returncode == 0, done.stderr
    assert not OWN_LINES.search(done.stderr), done.stderr
    return tree


@contextlib.contextmanager
def started(
    program: pathlib.Path, elsewhere: pathlib.Path, environment: dict[str, str], *arguments: str
) -> Iterator[Callable[[], str]]:
    """A command that serves until it is ended -> where it does, which is waited for."""
    with subprocess.Popen(
        [str(program), *arguments],
        cwd=elsewhere,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        lines = process.stdout or iter(())
        ready = re.compile(r"(?:model_server: serving gRPC on|page:) (\S+)")
        before: list[str] = []

        def place() -> str:
            for line in lines:
                if found := ready.match(line):
                    return found[1]
                before.append(line)
            raise AssertionError("".join(before))

        try:
            yield place
        finally:
            process.terminate()
        after, _ = process.communicate(timeout=60)
    said = "".join(before) + after
    assert process.returncode == 0
    assert not OWN_LINES.search(said), said


@pytest.mark.slow
def test_the_wheel_has_the_packages_with_their_data_and_nothing_else(wheel: pathlib.Path) -> None:
    files = {
        path.relative_to(REPOSITORY).as_posix()
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {f"{package}/py.typed" for package in PACKAGES} <= files
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files | {"cait.py"}


@pytest.mark.slow
def test_packages_are_those_of_the_wheel(run: Installed, program: pathlib.Path) -> None:
    done = run(script=PLACES)
    assert (done.returncode, done.stderr) == (0, "")
    for line in done.stdout.splitlines():
        assert pathlib.Path(line).is_relative_to(program.parents[1])


@pytest.mark.slow
def test_the_program_from_any_directory(run: Installed) -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert run("--version").stdout == f"cait {version}\n"
    assert run("--help").stdout.startswith("usage: cait COMMAND")
    assert run("serve", "--version").stdout.startswith("TensorFlow ModelServer: ")
    for arguments, message in (
        (["sevre"], "cait: no command 'sevre'; expected one of publish, evaluate, "),
        (["publish", "--publish_to", "x"], "error: --checkpoints is missing; "),
        (["attention", "photo.jpg"], "attention: --model NAME (of a server) or --saved_model "),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(message)


@pytest.mark.slow
def test_published_verified_and_written_about(run: Installed, tree: pathlib.Path) -> None:
    done = run("verify", str(tree))
    assert (done.returncode, done.stdout) == (0, "3 checked, 0 not as published\n"), done.stderr
    done = run("configs", "write", str(tree), "--base_path", "/models", "--hub_publisher", "own")
    assert (done.returncode, done.stderr) == (0, "")
    page = (tree / "hub" / "docs" / "own" / TINY / "1.md").read_text()
    assert page.startswith(f"# Module own/{TINY}/1\n")
    assert "/models" in (tree / "deployment" / "docker-compose.yaml").read_text()
    # Back to where the tree is.
    done = run("configs", "write", str(tree), "--base_path", str(tree / "serving"))
    assert (done.returncode, done.stderr) == (0, "")
    warm_up = tree / "serving" / TINY / "1" / "assets.extra" / "tf_serving_warmup_requests"
    assert warm_up.stat().st_size > 1000


@pytest.mark.slow
def test_served_classified_and_shown(
    run: Installed,
    tree: pathlib.Path,
    program: pathlib.Path,
    elsewhere: pathlib.Path,
    environment: dict[str, str],
    data: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    place = (program, elsewhere, environment)
    # Warm-up would take as long as all the rest.
    cold = tmp_path / "tree"
    shutil.copytree(tree, cold, ignore=shutil.ignore_patterns("tf_serving_warmup_requests"))
    base_path = f"--model_base_path={cold / 'serving' / TINY}"
    serve = ("serve", "--port=0", f"--model_name={TINY}", base_path)
    # The page starts a server of its own.
    page = ("page", "--port=0", "--published", str(cold))
    with started(*place, *serve) as server, started(*place, *page) as shown:
        photo = str(next((data / "photos").glob("*.jp*g")))
        done = run("classify", "--server", server(), "--model", TINY, photo)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) >= 5
        url = shown()
        with urllib.request.urlopen(f"{url}/static/page.js") as reply:
            assert reply.read() == (REPOSITORY / "serving/page/static/page.js").read_bytes()
        end = time.monotonic() + 60
        while not (models := answered(f"{url}/models")):
            assert time.monotonic() < end
            time.sleep(0.2)
    assert TINY.encode() in models


@pytest.mark.slow
def test_commands_do_not_show_what_tensorflow_says_of_itself(
    run: Installed,
    tree: pathlib.Path,
    data: pathlib.Path,
    tmp_path: pathlib.Path,
    environment: dict[str, str],
) -> None:
    """Those that no other test here runs; and they do with `--verbose`."""
    photo = data / "photos" / "cat.jpg"
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copyfile(photo, tmp_path / "photos" / name / "cat.jpg")
    images, version = str(tmp_path / "photos"), str(tree / "serving" / TINY / "1")
    picture, sample = str(tmp_path / "picture.png"), str(tmp_path / "sample")
    for command in (
        ["sample-shard", "--images", images, "--count", "2", "--output", sample],
        ["configs", "status", str(tree)],
        ["attention", str(photo), "--saved_model", version, "--output", picture],
    ):
        done = run(*command)
        assert done.returncode == 0, done.stderr
        assert not OWN_LINES.search(done.stderr), done.stderr
    assert OWN_LINES.search(run(*command, "--verbose").stderr)


def answered(url: str) -> bytes:
    """What is there, once there is something."""
    try:
        with urllib.request.urlopen(url) as reply:
            content: bytes = reply.read()
            return content
    except urllib.error.HTTPError as error:
        if b"starting" not in (said := error.read()):
            raise AssertionError(said) from error
        return b""


@pytest.mark.parametrize("name", [*COMMANDS, *PARTS])
def test_every_help_has_an_example_and_the_defaults(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"usage: cait {name} ")
    assert re.search(rf"^example.*:\n  cait {name} ", out, re.MULTILINE)
    for flag, text in flags_of(out):
        assert "(default: " in text or "(needed" in text, flag


def flags_of(text: str) -> Iterator[tuple[str, str]]:
    """The flags that take a value, and what is said about them."""
    for found in re.finditer(r"^  (--\w+) [\[A-Z](.*(?:\n {10,}.*)*)", text, re.MULTILINE):
        yield found[1], " ".join(found[2].split())


def test_no_command_is_loaded_for_the_help() -> None:
    code = "import sys, cait; cait.main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert not {*PACKAGES, "tensorflow", "apache_beam", "numpy"} & set(done.stderr.split())
    width = max(map(len, COMMANDS))
    for name, command in COMMANDS.items():
        assert f"  {name:{width}}  {command.summary}\n" in done.stdout


def test_the_locks_agree() -> None:
    core, everything = (
        dict(re.findall(r"^([\w.\-\[\]]+)==(\S+)", (REPOSITORY / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert core.items() <= everything.items()
    assert "pytest" in everything.keys() - core.keys()
    # A plain version of a package that any index has: no address, and no build for one machine.
    for name in ("requirements.lock", "requirements-dev.lock"):
        assert not re.search(r"://|--index|--find-links|\+cpu", (REPOSITORY / name).read_text())
