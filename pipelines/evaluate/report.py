"""The report of an evaluation: JSON, Markdown, CSV, the table on the screen and in the README."""

import csv
import dataclasses
import io
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from export.errors import UserError
from export.variants import VARIANTS, Variant
from serving_configs.tree.atomic import write_atomically
from serving_configs.tree.evaluation import Proportion
from signatures.files import read_file
from signatures.messages import without_credentials
from signatures.tables import markdown_table

from ..gate.accuracy import CONFIDENCE, INTERVAL, proportion
from ..store.base import open_store
from .confusion import by_class, can_draw, lines_of, most_confused, pairs_of
from .scores import ServedModel, ShardScore

MARK = "accuracy"
"""Name of the HTML comments around the table of results."""

_SHOWN = 20
"""Names of files in the text reports; evaluation.json has all."""

_UNTRAINED = "its weights are random and not trained; its accuracy means nothing"
_HINT = "run pip install 'cait-serving[pictures]'"

_OF_FILES = {
    "converted": "converted to PNG",
    "left_out": "left out",
    "undecodable": "could not be decoded",
}
"""What is named of the files that were not measured as they are."""


def evaluation_of(
    model: ServedModel, scores: Sequence[ShardScore], failures: Sequence[str]
) -> dict[str, Any]:
    """Everything that is reported of one model, as JSON has it.

    Args:
        model: what was evaluated.
        scores: of the shards that were done.
        failures: why others were not. The model then has no accuracy.
    """
    images = sum(score.images for score in scores)
    correct = {k: sum(getattr(score, k) for score in scores) for k in ("top1", "top5")}
    seconds = sum(score.seconds for score in scores)
    pairs = pairs_of(scores)
    variant = model.published_variant
    entry: dict[str, Any] = {
        "model": model.name,
        "version": model.version,
        "variant": model.variant,
        "sha256": model.digest,
        "images": images,
        "files": images + sum(len(score.undecodable) + len(score.left_out) for score in scores),
        **{kind: [name for s in scores for name in getattr(s, kind)] for kind in _OF_FILES},
        "images_per_second": images / seconds if seconds else None,
        "failures": list(failures),
        "trained": model.trained,
        # Of a part of the data they would be of other classes' proportions.
        "classes": [] if failures else by_class(pairs, model.class_names),
        "confused": [] if failures else most_confused(pairs, model.class_names),
    }
    for name, count in correct.items():
        # Of five classes all images have theirs among the best five.
        says_nothing = name == "top5" and model.num_classes <= 5
        measured = None if failures or says_nothing else proportion(count, images)
        entry[name] = {
            "correct": None if says_nothing else count,
            **(dataclasses.asdict(measured) if measured else dict.fromkeys(_FIELDS)),
            "published": getattr(variant, name) if variant else None,
        }
    return entry


_FIELDS = tuple(field.name for field in dataclasses.fields(Proportion))


def write_evaluation(entries: Sequence[dict[str, Any]], data: Sequence[str], output: str) -> None:
    """Writes `evaluation.json`, `.md` and `.csv`, each whole or not at all."""
    interval = f"{INTERVAL}, {CONFIDENCE:.0%}"
    content = {"data": list(data), "interval": interval, "models": list(entries)}
    for suffix, text in (
        ("json", json.dumps(content, indent=1) + "\n"),
        ("md", _as_markdown(content)),
        ("csv", _as_csv(entries)),
    ):
        _write(output, f"evaluation.{suffix}", without_credentials(text).encode())


def write_classes(files: Mapping[str, bytes], output: str) -> None:
    """Writes the files about classes: their path below the directory of the results -> content."""
    for name, content in files.items():
        _write(output, name, content)


def _write(output: str, name: str, content: bytes) -> None:
    try:
        open_store(output).write(name, content)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error})") from None


def evaluation_table(entries: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A row of column names, then a row for each model. Accuracies are in percent."""
    rows: list[tuple[str, ...]] = [
        (
            *("model", "version", "top-1", "interval", "published"),
            *("top-5", "interval", "published", "images", "undecodable", "images/s"),
        )
    ]
    for entry in entries:
        row = [entry["model"], str(entry["version"])]
        for name in ("top1", "top5"):
            figures = entry[name]
            row += [
                _percent(figures["percent"]),
                _interval(figures),
                _percent(figures["published"]),
            ]
        speed = entry["images_per_second"]
        row += [f"{entry['images']} of {entry['files']}", str(len(entry["undecodable"]))]
        rows.append((*row, f"{speed:.1f}" if speed else "-"))
    return rows


def notes_of(entries: Sequence[dict[str, Any]]) -> list[str]:
    """What happened to files that were not measured as they are, a line for each kind of it.

    Several models that were measured on the same files have the same line.
    """
    notes: dict[str, None] = {}
    for entry in entries:
        for kind, text in _OF_FILES.items():
            names = entry[kind]
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            if names:
                listed = "; ".join(names[:_SHOWN])
                notes[f"{len(names)} of {entry['files']} files {text}: {listed}{more}"] = None
        if not entry["trained"]:
            notes[f"{entry['model']} {entry['version']}: {_UNTRAINED}"] = None
    if not can_draw():
        notes["no picture of the confusion matrix: matplotlib is not installed; " + _HINT] = None
    return list(notes)


def accuracy_table(measured: Mapping[str, tuple[str, str]]) -> list[str]:
    """The lines of the README's table of results.

    Args:
        measured: variant -> its top-1 and top-5 as they are shown; others have none.
    """
    header = (
        *("variant", "image size", "parameters", "top-1 published", "top-1 measured"),
        *("top-5 published", "top-5 measured"),
    )
    return markdown_table([header, *(_row(v, measured) for v in VARIANTS.values())])


def check_table(path: pathlib.Path) -> None:
    """Finds the table before the work is done that fills it in.

    Raises:
        UserError: the file can't be read or written, or has no such table.
    """
    _split_table(path)


def fill_table(path: pathlib.Path, entries: Sequence[dict[str, Any]]) -> list[str]:
    """Puts what was measured into a file's table of results, and leaves other variants' rows.

    Returns:
        The models that have no place in it, since no accuracy is published of such weights.

    Raises:
        UserError: see `check_table`.
    """
    before, table, after = _split_table(path)
    measured, left_out = {}, []
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 7:
            measured[cells[0]] = (cells[4], cells[6])
    for entry in entries:
        if entry["top1"]["percent"] is None:
            continue
        if entry["top1"]["published"] is None:
            left_out.append(f"{entry['model']} {entry['version']}")
        else:
            measured[entry["variant"]] = (_cell(entry, "top1"), _cell(entry, "top5"))
    text = "\n".join(accuracy_table(measured)) + "\n"
    try:
        write_atomically(path, before + text + after)
    except OSError as error:
        raise UserError(f"--table {path}: cannot be written ({error.strerror})") from None
    return left_out


def _split_table(path: pathlib.Path) -> tuple[str, str, str]:
    try:
        text = read_file(path).decode().replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--table {path}: cannot be read ({error}); expected a file") from None
    parts = re.fullmatch(rf"(.*<!-- {MARK} -->\n)(.*)(<!-- /{MARK} -->.*)", text, re.DOTALL)
    if not parts:
        raise UserError(
            f"--table {path}: no lines <!-- {MARK} --> and <!-- /{MARK} -->; expected the table of "
            "results between them"
        )
    return parts[1], parts[2], parts[3]


def _row(variant: Variant, measured: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    top1, top5 = measured.get(variant.name, ("", ""))
    return (
        *(variant.name, str(variant.config.image_size), f"{variant.parameters:,}"),
        *(f"{variant.top1:.3f}", top1, f"{variant.top5:.3f}", top5),
    )


def _cell(entry: dict[str, Any], name: str) -> str:
    return f"{_percent(entry[name]['percent'])} ({_interval(entry[name])})"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(figures: dict[str, Any]) -> str:
    if figures["percent"] is None:
        return "-"
    return f"{figures['low']:.3f} to {figures['high']:.3f}"


def _as_markdown(content: dict[str, Any]) -> str:
    lines = ["# Evaluation", "", *(f"- data: {data}" for data in content["data"])]
    lines += [
        f"- accuracies in percent, of the images that were measured, of all files; interval: "
        f"{content['interval']}",
        "- images/s: of one worker, without loading the model",
        "",
        *markdown_table(evaluation_table(content["models"])),
    ]
    for entry in content["models"]:
        lines += ["", f"## {entry['model']} {entry['version']}", ""]
        weights = "trained" if entry["trained"] else f"**not trained**: {_UNTRAINED}"
        lines += [f"- variant: {entry['variant']}", f"- weights: {weights}"]
        lines += [f"- failed: {failure}" for failure in entry["failures"]]
        for kind, text in _OF_FILES.items():
            lines += [f"- {text}: {name}" for name in entry[kind][:_SHOWN]]
            if len(entry[kind]) > _SHOWN:
                more = len(entry[kind]) - _SHOWN
                lines.append(f"- {text}: {more} more, which evaluation.json names")
        lines += lines_of(entry)
    return "\n".join(lines) + "\n"


def _as_csv(entries: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["model", "version", "variant", "trained", "images", "files", *_OF_FILES]
    columns += ["images_per_second"]
    parts = ("correct", *_FIELDS, "published")
    writer.writerow([*columns, *(f"{n}_{part}" for n in ("top1", "top5") for part in parts)])
    for entry in entries:
        counts = {kind: len(entry[kind]) for kind in _OF_FILES}
        row = [{**entry, **counts}[column] for column in columns]
        writer.writerow([*row, *(entry[n][part] for n in ("top1", "top5") for part in parts)])
    return text.getvalue()
