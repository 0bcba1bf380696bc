"""Tables of results, for the screen and in Markdown."""

from collections.abc import Sequence


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """A table for the screen, its columns aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown; the first row is its header."""
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    header, *body = [f"| {line} |" for line in lines]
    return [header, "|" + "---|" * len(rows[0]), *body]
