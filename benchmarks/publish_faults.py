"""Publishing under faults: kills, races, and what a reader sees of them.

    python -m benchmarks.publish_faults [--publishes 200] [--rounds 50] [--stored_publishes 200]

Prints a table. Exit status: 0 when no fault showed, 1 when one did.
"""

import argparse
import pathlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from pipelines.verify import tree_problems
from serving_configs.tree.paths import STAGING
from signatures.addresses import is_url
from tests.support.publishers import MODELS, Tree, local_tree, object_store

from .publishing import Poller, Publisher, new_content, write_model
from .table import as_markdown, machine

HEADER = ("fault", "times", "seen by the reader", "afterwards", "seconds")
# What takes a publisher about as long as starting it.
_PADDING = 4 << 20
_STORED_PADDING = 64 << 10
# A publisher reads its model's manifests: with other names now and then, the last takes about as
# long as the first, and the moments stay spread over all that it does.
_OF_ONE_NAME = 10


class FaultError(AssertionError):
    """A fault showed: somebody saw half a version, or something was lost or left behind."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.publish_faults")
    parser.add_argument("--publishes", type=int, default=200, help="killed ones, on a disk")
    parser.add_argument("--rounds", type=int, default=50, help="of two publishers at once")
    parser.add_argument("--stored_publishes", type=int, default=200, help="killed ones, in a store")
    parser.add_argument("--stored_rounds", type=int, default=50, help="of two at once, in a store")
    flags = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        top = pathlib.Path(name)
        model = write_model(top / "model", _PADDING)
        small = write_model(top / "small", _STORED_PADDING)
        with object_store() as store:
            runs: list[Callable[[], tuple[str, ...]]] = [
                lambda: killed(local_tree(top / "killed"), model, flags.publishes, load=True),
                lambda: two_at_once(local_tree(top / "two"), model, flags.rounds),
                lambda: killed(store, small, flags.stored_publishes),
                lambda: two_at_once(
                    Tree(f"{store.root}-two", store.options), small, flags.stored_rounds
                ),
            ]
            rows, failed = [], False
            for run in runs:
                try:
                    rows.append(run())
                except FaultError as error:
                    print(f"fault: {error}", file=sys.stderr)
                    failed = True
    print(as_markdown(HEADER, rows))
    print(f"\nOn {machine()}.")
    return 1 if failed else 0


def killed(
    tree: Tree, model: pathlib.Path, publishes: int, load: bool = False, seed: int = 0
) -> tuple[str, ...]:
    """Kills publishers at random moments while a reader polls, then lets one finish.

    Args:
        tree: where to.
        model: what.
        publishes: how many to kill.
        load: whether the reader loads every version with TensorFlow.
        seed: of the moments.

    Returns:
        The row of the table.

    Raises:
        FaultError: the reader saw half a version, the next run did not complete, a version does
            not verify, or something stays in the staging area.
    """
    started = time.monotonic()
    moments = random.Random(seed)
    first = Publisher(tree, model, MODELS[:1], new_content())
    first.finish()
    longest = 1.5 * first.seconds
    poller = Poller(tree, _files(model), load)
    dead = 0
    for publish in range(publishes):
        name = f"{MODELS[0]}_{publish // _OF_ONE_NAME}"
        publisher = Publisher(tree, model, [name], new_content(), 0.0)
        dead += publisher.kill(moments.uniform(0, longest))
    (version,) = Publisher(tree, model, MODELS[:1], new_content(), 0.0).finish()
    seen = poller.stop()
    if seen.incomplete:
        raise FaultError(f"{len(seen.incomplete)} incomplete versions: {seen.incomplete[:3]}")
    versions = _verified(tree)
    if f"serving/{MODELS[0]}/{version}" not in versions:
        raise FaultError(f"the run after the last kill did not publish: version {version}")
    if seen.versions != len(versions):
        raise FaultError(f"the reader saw {seen.versions} versions of {len(versions)}")
    _staging_is_empty(tree)
    return (
        f"SIGKILL at a random moment, {_kind(tree)}",
        f"{publishes} ({dead} before they were done)",
        f"{seen.polls} polls, {seen.versions} versions, 0 incomplete",
        f"next run completed, {len(versions)} versions verify, staging empty",
        f"{time.monotonic() - started:.0f}",
    )


def two_at_once(
    tree: Tree, model: pathlib.Path, rounds: int, names: Sequence[str] = MODELS
) -> tuple[str, ...]:
    """Lets two publishers publish the same models at once, with content of their own.

    Args:
        tree: where to.
        model: what.
        rounds: how often.
        names: of the models.

    Returns:
        The row of the table.

    Raises:
        FaultError: a version is lost, there twice or does not verify, or something stays in the
            staging area.
    """
    started = time.monotonic()
    poller = Poller(tree, _files(model), load=False)
    published: list[tuple[str, int]] = []
    for played in range(rounds):
        now = [f"{name}_{played // _OF_ONE_NAME}" for name in names]
        both = [Publisher(tree, model, now, new_content()) for _ in range(2)]
        for publisher in both:
            published += zip(now, publisher.finish(), strict=True)
    seen = poller.stop()
    if seen.incomplete:
        raise FaultError(f"{len(seen.incomplete)} incomplete versions: {seen.incomplete[:3]}")
    expected = sorted(f"serving/{name}/{version}" for name, version in published)
    if len(set(expected)) != 2 * len(names) * rounds:
        raise FaultError("two publishers were told the same number")
    versions = _verified(tree)
    if sorted(versions) != expected:
        raise FaultError(f"published {len(expected)}, there are {len(versions)}")
    if len(_contents(tree, versions)) != 2 * rounds:
        raise FaultError("a publisher's content is lost, or there under another's number")
    _staging_is_empty(tree)
    return (
        f"two publishers of {len(names)} model{'s' * (len(names) > 1)} at once, {_kind(tree)}",
        f"{rounds} rounds",
        f"{seen.polls} polls, {seen.versions} versions, 0 incomplete",
        f"{len(versions)} versions verify, none lost, none twice, staging empty",
        f"{time.monotonic() - started:.0f}",
    )


def _kind(tree: Tree) -> str:
    return "object store" if is_url(tree.root) else "disk"


def _files(model: pathlib.Path) -> list[str]:
    files = [path for path in model.rglob("*") if path.is_file()]
    return [*(path.relative_to(model).as_posix() for path in files), "assets/content"]


def _verified(tree: Tree) -> list[str]:
    versions = []
    for path, problems in tree_problems(tree.open()):
        if problems:
            raise FaultError(f"{path}: {problems}")
        versions.append(path)
    return versions


def _contents(tree: Tree, versions: Sequence[str]) -> set[bytes]:
    """What the versions of the first model were told apart by."""
    return set(_read_contents(tree, versions))


def _read_contents(tree: Tree, versions: Sequence[str]) -> Iterator[bytes]:
    store = tree.open()
    for path in versions:
        if path.startswith(f"serving/{MODELS[0]}_"):
            with store.open(f"{path}/assets/content") as file:
                yield file.read()


def _staging_is_empty(tree: Tree) -> None:
    store = tree.open()
    left = [*store.sizes(STAGING), *store.children(STAGING)]
    if left:
        raise FaultError(f"left in the staging area: {left[:3]}")


if __name__ == "__main__":
    sys.exit(main())
