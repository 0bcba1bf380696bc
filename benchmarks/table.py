"""Tables as the documentation has them, and what machine they are of."""

import dataclasses
import os
import pathlib
import platform
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Result:
    """A line of a table: what was measured, the figure, and what it may be."""

    what: str
    figure: str
    bound: str
    holds: bool

    def row(self) -> tuple[str, ...]:
        """The cells."""
        return (self.what, self.figure, self.bound, "yes" if self.holds else "no")


def results_table(results: Sequence[Result]) -> str:
    """A Markdown table of results."""
    return as_markdown(("measured", "figure", "bound", "holds"), [r.row() for r in results])


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """The processor and the number of cores that this process may use."""
    model = platform.processor() or platform.machine()
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model = value.strip()
                break
    return f"{model}, {len(os.sched_getaffinity(0))} cores"
