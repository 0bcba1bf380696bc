"""Tables as the documentation has them, and what machine they are of."""

import dataclasses
import functools
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


_INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
}
_NARROW = {"AVX512-BF16", "AMX-BF16"}


@functools.cache
def _information() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def instructions() -> list[str]:
    """The instructions of the processor that libraries of products choose their code by."""
    flags = set(_information().split())
    return [name for flag, name in _INSTRUCTIONS.items() if flag in flags]


def narrow_instructions() -> bool:
    """Whether some of them are for bfloat16."""
    return not _NARROW.isdisjoint(instructions())


def machine() -> str:
    """The processor, its instructions, and the number of cores that this process may use."""
    model = platform.processor() or platform.machine()
    for line in _information().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
            break
    if found := instructions():
        model += f" with {' '.join(found)}"
    return f"{model}, {len(os.sched_getaffinity(0))} cores"
