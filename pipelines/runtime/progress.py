"""Progress of a run, reported by small objects in its store, so that it works across workers.

Workers leave an object for each step, and renew it while the step is at its images; whoever started
the run follows them. A terminal shows a bar of all steps and a row for each model that is at its
images; elsewhere each finished step is a line, and now and then each running one.
"""

import contextlib
import dataclasses
import datetime
import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Protocol, TextIO

import tqdm

_DIRECTORY = "progress"

POLL_SECONDS = {False: 0.2, True: 2.0}
"""Between two looks: on a disk, and where each look is a request."""

_RENEW_SECONDS = 2.0
_LINE_SECONDS = 30.0
"""Between two lines of a running step, where there is no terminal."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of a run.

    Attributes:
        step: `convert`, `validate`, `publish` or `evaluate`.
        model: the model, with its version where there are several.
        part: the part of the data; empty for a step without one.
        seconds: how long it took, or takes by now.
        images: how many images are done.
        all_images: how many there are; 0 where it is not known before the end.
        done: whether the step is finished.
    """

    step: str
    model: str
    part: str
    seconds: float
    images: int = 0
    all_images: int = 0
    done: bool = True

    @property
    def subject(self) -> str:
        """What the step is about, in words."""
        return f"{self.model} on {self.part}" if self.part else self.model

    @property
    def images_in_words(self) -> str:
        """Images done, images a second and time left."""
        rate = self.images / self.seconds if self.seconds else 0.0
        words = f"{self.images} images, {rate:.1f} images/s"
        if not (self.all_images and rate):
            return words
        left = datetime.timedelta(seconds=round((self.all_images - self.images) / rate))
        return f"{self.images} of {self.all_images} images, {rate:.1f} images/s, {left} left"


class Objects(Protocol):
    """Where a run's workers leave objects for whoever started it, such as `store.area.Area`."""

    def write(self, name: str, content: bytes) -> None:
        """Puts an object in place, whole."""

    def read(self, name: str) -> bytes | None:
        """An object, or None where there is none."""

    def names(self, directory: str) -> list[str]:
        """Names of the objects in a directory."""


def report_step(run: Objects, step: Step) -> None:
    """Reports a step. One that is repeated, by a retry, is reported once."""
    name = f"{step.step}-{step.subject}".replace("/", "_")
    # The work is done all the same.
    with contextlib.suppress(OSError):
        run.write(f"{_DIRECTORY}/{name}.json", json.dumps(dataclasses.asdict(step)).encode())


class ImageCounter:
    """Counts the images of a step, and reports it while it runs.

    Args:
        run: the run's objects.
        step: the step, as it begins.
    """

    def __init__(self, run: Objects, step: Step) -> None:
        self._run = run
        self._step = step
        self._started = self._reported = time.monotonic()
        self.images = 0

    def __call__(self, images: int = 1) -> None:
        """Counts images that are done."""
        self.images += images
        now = time.monotonic()
        if now - self._reported >= _RENEW_SECONDS:
            self._reported = now
            report_step(self._run, self._at(now, done=False))

    def finish(self) -> None:
        """Reports the step as finished."""
        report_step(self._run, self._at(time.monotonic(), done=True))

    def _at(self, now: float, done: bool) -> Step:
        return dataclasses.replace(
            self._step, seconds=now - self._started, images=self.images, done=done
        )


@contextlib.contextmanager
def show_progress(run: Objects, total: int, poll_seconds: float = 0.2) -> Iterator[None]:
    """Shows the steps that are reported, while the block runs.

    Args:
        run: the run's objects.
        total: number of steps that will be reported when nothing fails.
        poll_seconds: how long to wait between two looks.
    """
    stop = threading.Event()
    show: _Rows | _Lines = (
        _Rows(total, sys.stderr) if sys.stderr.isatty() else _Lines(total, sys.stderr)
    )

    def follow() -> None:
        finished: set[str] = set()
        while True:
            # Read before the look, which then shows the last steps, too.
            stopping = stop.wait(poll_seconds)
            # A store that cannot be read now may be at the next look.
            with contextlib.suppress(OSError):
                for step in _new_steps(run, finished):
                    show.step(step, len(finished))
            if stopping:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        show.close()


def _new_steps(run: Objects, finished: set[str]) -> Iterator[Step]:
    """The steps that are not known to be finished."""
    for name in run.names(_DIRECTORY):
        if name.startswith(".") or name in finished:
            continue
        content = run.read(f"{_DIRECTORY}/{name}")
        if content is not None:
            step = Step(**json.loads(content))
            if step.done:
                finished.add(name)
            yield step


class _Lines:
    """A line for each finished step, and now and then for a running one."""

    def __init__(self, total: int, file: TextIO) -> None:
        self._total = total
        self._file = file
        self._written: dict[str, float] = {}

    def step(self, step: Step, finished: int) -> None:
        now = time.monotonic()
        if step.done:
            text = f"[{finished}/{self._total}] {step.step} {step.subject}: {step.seconds:.1f} s"
        elif now - self._written.setdefault(step.subject, now) >= _LINE_SECONDS:
            self._written[step.subject] = now
            text = f"{step.step} {step.subject}: {step.images_in_words}"
        else:
            return
        print(text, file=self._file, flush=True)

    def close(self) -> None:
        pass


class _Rows:
    """A bar of all steps, and below it a row for each model that is at its images."""

    def __init__(self, total: int, file: TextIO) -> None:
        self._file = file
        self._bar = tqdm.tqdm(total=total, unit="step", file=file)
        self._rows: dict[str, tqdm.tqdm] = {}

    def step(self, step: Step, finished: int) -> None:
        if step.done:
            self._bar.set_description(f"{step.step} {step.subject}: {step.seconds:.1f} s")
            self._bar.update(finished - self._bar.n)
            if row := self._rows.pop(step.model, None):
                row.close()
            return
        row = self._rows.get(step.model)
        if row is None:
            row = self._rows[step.model] = tqdm.tqdm(
                file=self._file, leave=False, bar_format="  {desc}"
            )
        row.set_description_str(f"{step.step} {step.subject}: {step.images_in_words}")

    def close(self) -> None:
        for row in self._rows.values():
            row.close()
        self._bar.close()
