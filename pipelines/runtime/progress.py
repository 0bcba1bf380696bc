"""Progress of a run, reported by small objects in its store, so that it works across workers.

Workers leave an object for each finished step; whoever started the run follows them: a bar on a
terminal, a line for each step elsewhere.
"""

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from typing import Protocol

import tqdm

_DIRECTORY = "progress"

POLL_SECONDS = {False: 0.2, True: 2.0}
"""Between two looks: on a disk, and where each look is a request."""


class Objects(Protocol):
    """Where a run's workers leave objects for whoever started it, such as `store.area.Area`."""

    def write(self, name: str, content: bytes) -> None:
        """Puts an object in place, whole."""

    def read(self, name: str) -> bytes | None:
        """An object, or None where there is none."""

    def names(self, directory: str) -> list[str]:
        """Names of the objects in a directory."""


def report_step(run: Objects, step: str, subject: str, seconds: float) -> None:
    """Reports a finished step. A step that is repeated, by a retry, is reported once.

    Args:
        run: the run's objects.
        step: `convert`, `validate`, `publish` or `evaluate`.
        subject: what was done, unique within the step.
        seconds: how long it took.
    """
    content = json.dumps({"step": step, "subject": subject, "seconds": seconds})
    name = f"{step}-{subject}".replace("/", "_")
    # The work is done all the same.
    with contextlib.suppress(OSError):
        run.write(f"{_DIRECTORY}/{name}.json", content.encode())


@contextlib.contextmanager
def show_progress(run: Objects, total: int, poll_seconds: float = 0.2) -> Iterator[None]:
    """Shows the steps that are reported, while the block runs.

    Args:
        run: the run's objects.
        total: number of steps that will be reported when nothing fails.
        poll_seconds: how long to wait between two looks.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_show, args=(run, total, stop, poll_seconds), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _show(run: Objects, total: int, stop: threading.Event, poll_seconds: float) -> None:
    seen: set[str] = set()
    terminal = sys.stderr.isatty()
    with tqdm.tqdm(total=total, unit="step", disable=not terminal, file=sys.stderr) as bar:
        while True:
            # Read before the look, which then shows the last steps, too.
            stopping = stop.wait(poll_seconds)
            # A store that cannot be read now may be at the next look.
            with contextlib.suppress(OSError):
                for event in _new_events(run, seen):
                    text = f"{event['step']} {event['subject']}: {event['seconds']:.1f} s"
                    if terminal:
                        bar.set_description(text)
                        bar.update()
                    else:
                        print(f"[{len(seen)}/{total}] {text}", file=sys.stderr, flush=True)
            if stopping:
                return


def _new_events(run: Objects, seen: set[str]) -> Iterator[dict]:  # type: ignore[type-arg]
    for name in run.names(_DIRECTORY):
        if name.startswith(".") or name in seen:
            continue
        content = run.read(f"{_DIRECTORY}/{name}")
        if content is not None:
            seen.add(name)
            yield json.loads(content)
