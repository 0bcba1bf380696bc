"""Progress of a run, reported by files, so that it works across the processes of a runner.

Workers drop a file for each finished step into a directory of the staging area; whoever started
the run follows them: a bar on a terminal, a line for each step elsewhere.
"""

import contextlib
import json
import pathlib
import sys
import threading
from collections.abc import Iterator

import tqdm

_POLL_SECONDS = 0.2


def report_step(directory: str, step: str, subject: str, seconds: float) -> None:
    """Reports a finished step. A step that is done again, by a retry, is reported once.

    Args:
        directory: where the run keeps its progress. When there is none, as on a worker that
            shares no disk with the starter, nothing is reported.
        step: `convert`, `validate` or `publish`.
        subject: what was done, unique within the step.
        seconds: how long it took.
    """
    target = pathlib.Path(directory)
    if not target.is_dir():
        return
    content = json.dumps({"step": step, "subject": subject, "seconds": seconds})
    name = f"{step}-{subject}".replace("/", "_")
    # Written aside and renamed, so that the follower never reads half of it.
    temporary = target / f".{name}.{threading.get_ident()}"
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(target / f"{name}.json")


@contextlib.contextmanager
def show_progress(directory: pathlib.Path, total: int) -> Iterator[None]:
    """Shows the steps reported in a directory, while the block runs.

    Args:
        directory: is made.
        total: number of steps that will be reported when nothing fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    thread = threading.Thread(target=_show, args=(directory, total, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _show(directory: pathlib.Path, total: int, stop: threading.Event) -> None:
    seen: set[str] = set()
    terminal = sys.stderr.isatty()
    with tqdm.tqdm(total=total, unit="step", disable=not terminal, file=sys.stderr) as bar:
        while True:
            # Asked before looking: what is reported until then is shown, also the last steps.
            stopping = stop.wait(_POLL_SECONDS)
            new = sorted(
                (path for path in directory.glob("*.json") if path.name not in seen),
                key=lambda path: path.stat().st_mtime_ns,
            )
            for path in new:
                seen.add(path.name)
                event = json.loads(path.read_text(encoding="utf-8"))
                text = f"{event['step']} {event['subject']}: {event['seconds']:.1f} s"
                if terminal:
                    bar.set_description(text)
                    bar.update()
                else:
                    print(f"[{len(seen)}/{total}] {text}", file=sys.stderr, flush=True)
            if stopping:
                return
