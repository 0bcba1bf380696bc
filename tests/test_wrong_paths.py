"""Every path flag of every command, with paths that no file or directory is at or can be made at.

Each is one line that names the path, and status 2. Tests run as root, who has access everywhere:
what nobody can make is below `/proc`.
"""

import contextlib
import dataclasses
import os
import pathlib
import pkgutil
import resource
import stat
from collections.abc import Callable, Iterator

import pytest

from cait import COMMANDS
from serving_configs.write import Settings, write_all
from tests.support.labelled_records import write_shard
from tests.support.path_flags import PATHS
from tests.support.publishers import local_tree, publish, write_files

LONG = "n" * 300


def dangling(here: pathlib.Path) -> pathlib.Path:
    (here / "dangling").symlink_to("nowhere")
    return here / "dangling"


def loop(here: pathlib.Path) -> pathlib.Path:
    (here / "loop").symlink_to("loop")
    return here / "loop"


def below_a_file(here: pathlib.Path) -> pathlib.Path:
    (here / "file").write_text("x")
    return here / "file" / "x"


def directory(here: pathlib.Path) -> pathlib.Path:
    (here / "directory" / "x").mkdir(parents=True)
    return here / "directory"


def file(here: pathlib.Path) -> pathlib.Path:
    (here / "a file").write_bytes(b"\0 no format has this")
    return here / "a file"


def endless(here: pathlib.Path) -> pathlib.Path:
    """A device without end, of this test's own: root could replace the machine's."""
    if os.geteuid():
        return pathlib.Path("/dev/zero")
    os.mknod(here / "endless", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    return here / "endless"


PLACES: dict[str, Callable[[pathlib.Path], pathlib.Path]] = {
    "missing": lambda here: here / "missing" / "x",
    "dangling": dangling,
    "below dangling": lambda here: dangling(here) / "x",
    "loop": loop,
    "below loop": lambda here: loop(here) / "x",
    "below a file": below_a_file,
    "long": lambda here: here / LONG,
    "below long": lambda here: here / LONG / "x",
    "proc": lambda here: pathlib.Path("/proc/x"),
    "below proc": lambda here: pathlib.Path("/proc/x/y"),
    "proc's own": lambda here: pathlib.Path("/proc/self/mem"),
    "endless": endless,
    "directory": directory,
    "file": file,
}

SHARDS = "tests/data/sample-shard-*"
PHOTO = "tests/data/photos/cat.jpg"
PUBLISH = {"--checkpoints": "random", "--sample_shard": SHARDS, "--publish_to": "{here}/tree"}
EVALUATE = {"--models": "{tree}/serving", "--data": "{tree}/labelled", "--output": "{here}/out"}
SAMPLE = {"--images": "{tree}/labelled", "--count": "1", "--output": "{here}/sample"}
SERVE = {"--port": "0", "--model_name": "m", "--model_base_path": "{tree}"}
ATTENTION = {"--saved_model": "{tree}/x", "--output": "{here}/a.png"}
CLASSIFY = ("classify", "--server=localhost:1", "--model=m", "--timeout=1")
PAIR = ("--cert", PHOTO, "--key", PHOTO)
ARCHIVE = "{tree}/hub/cait/cait_one/1.tar.gz"
LABEL = ("--model", "cait_one", "--version", "1", "--poll_seconds=0")

# Kinds of paths that a flag takes.
MADE = {"missing", "directory"}


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag of a command.

    Attributes:
        command: its name.
        dest: the flag, as its parser calls it.
        argv: a command line; `{path}` in it is the path, `{here}` and `{tree}` are directories.
        taken: the kinds of paths that are not wrong.
    """

    command: str
    dest: str
    argv: tuple[str, ...]
    taken: frozenset[str] = frozenset()


def flag(
    command: str, flags: dict[str, str], name: str, taken: set[str] | None = None, *first: str
) -> Flag:
    words = {**flags, name: "{path}"}
    argv = [word for pair in words.items() for word in pair]
    return Flag(command, name.removeprefix("--"), (*first, *argv), frozenset(taken or ()))


FLAGS = [
    flag("publish", PUBLISH, "--publish_to", MADE),
    flag("publish", PUBLISH, "--checkpoints"),
    flag("publish", PUBLISH, "--sample_shard"),
    # A file of one line is a file of one class.
    flag("publish", PUBLISH, "--labels", {"file"}),
    flag("evaluate", EVALUATE, "--models"),
    flag("evaluate", EVALUATE, "--data"),
    flag("evaluate", EVALUATE, "--output", MADE),
    flag("evaluate", EVALUATE, "--table"),
    Flag("verify", "publish_to", ("{path}",)),
    Flag("verify", "public_key", ("{tree}", "--public_key", "{path}")),
    flag("publish", PUBLISH, "--sign_with"),
    Flag("configs", "sign_with", ("sign", "{tree}", "--sign_with", "{path}")),
    Flag(
        "configs",
        "replace",
        ("sign", "{tree}", "--replace", "{path}", "--sign_with", "{here}/none"),
    ),
    Flag("configs", "public_key", ("extract", "--public_key", "{path}", ARCHIVE, "{here}/new")),
    flag("sample-shard", SAMPLE, "--images"),
    # It replaces what is there.
    flag("sample-shard", SAMPLE, "--output", {"missing", "file", "dangling", "loop"}),
    Flag("configs", "publish_to", ("write", "{path}")),
    Flag("configs", "publish_to", ("promote", "--publish_to", "{path}", *LABEL)),
    Flag("configs", "archive", ("extract", "{path}", "{here}/new")),
    Flag(
        "configs",
        "directory",
        ("extract", "{tree}/hub/cait/cait_one/1.tar.gz", "{path}"),
        frozenset({"missing"}),
    ),
    *(Flag("classify", "photos", (*CLASSIFY, "{path}")) for _ in range(1)),
    *(
        Flag("client", name, (*CLASSIFY, "--tls", *PAIR, f"--{name}", "{path}", PHOTO))
        for name in ("ca", "cert", "key")
    ),
    Flag("attention", "photograph", ("{path}", "--model", "m", "--output", "{here}/a.png")),
    Flag(
        "attention", "saved_model", (PHOTO, "--saved_model", "{path}", "--output", "{here}/a.png")
    ),
    Flag("page", "published", ("--port", "0", "--published", "{path}")),
    Flag("page", "models_from", ("--port", "0", "--models_from", "{path}")),
    Flag("page", "photograph", ("--port", "0", "--models", "m", "--photograph", "{path}")),
]
CASES = [
    pytest.param(flag, kind, id=f"{flag.command} {flag.dest} {kind}")
    for flag in FLAGS
    for kind in PLACES
    if kind not in flag.taken
]

# Flags that are not called here, because they are looked at late.
ELSEWHERE = {
    # Weights are fetched from a hub: tests/pipelines/test_fetch_weights.py.
    ("fetch-weights", "to"),
    # Beside a store that is a URL: tests/pipelines/publish/test_remote.py.
    ("publish", "staging_dir"),
    # A picture is drawn first: tests/serving/attention/test_attention_command.py.
    ("attention", "output"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A tree with a version that no server could load, and configs."""
    top = tmp_path_factory.mktemp("published")
    publish(local_tree(top / "tree"), write_files(top / "m"), ["cait_one"], "a")
    write_all(str(top / "tree"), Settings())
    write_shard(top / "tree" / "labelled", [(pathlib.Path(PHOTO).read_bytes(), 0)])
    return top / "tree"


@contextlib.contextmanager
def memory_bounded() -> Iterator[None]:
    """A command that reads without end fails, before the machine has no memory left."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + (4 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("flag", "kind"), CASES)
def test_wrong_path_is_one_line(
    flag: Flag,
    kind: str,
    tree: pathlib.Path,
    tmp_path: pathlib.Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = PLACES[kind](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    words = [word.format(path=path, here=tmp_path, tree=tree) for word in flag.argv]
    module = pkgutil.resolve_name(COMMANDS[flag.command].module)
    with memory_bounded():
        status = module.main(words)
    captured = capfd.readouterr()
    assert (status, captured.out) == (2, ""), captured
    assert captured.err.count("\n") == 1, captured.err
    assert any(str(named) in captured.err for named in (path, path.parent))
    assert sorted(tmp_path.rglob("*")) == before


def test_every_path_flag_is_here() -> None:
    here = {(flag.command, flag.dest) for flag in FLAGS} | ELSEWHERE
    # `classify` is the client's.
    here |= {("classify", dest) for command, dest in here if command == "client"}
    here |= {("client", "photos")}
    for command in COMMANDS.keys() - {"serve"}:
        assert {(command, dest) for dest in PATHS[command]} <= here
