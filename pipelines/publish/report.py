"""The report of a run: `report.json`, `report.md`, and the table on the screen."""

import json
from collections.abc import Sequence
from typing import Any

from signatures.messages import without_credentials
from signatures.tables import markdown_table

from ..elements import ModelReport
from ..store.base import read
from ..store.staging import Staging

_COLUMNS = ("model", "version", "parameters", "worst difference", "seconds", "path")


def write_report(reports: Sequence[ModelReport], staging: Staging) -> None:
    """Writes both forms beside the published tree, and one where only this run looks for it."""
    ordered = sorted(reports, key=lambda report: report.model)
    models = [report.as_json() for report in ordered]
    content = without_credentials(json.dumps({"models": models}, indent=1) + "\n")
    store = staging.store
    store.write("report.json", content.encode())
    store.write("report.md", as_markdown(json.loads(content)).encode())
    staging.write("report.json", content.encode())


def read_report(staging: Staging) -> dict[str, Any]:
    """The run's report, as JSON.

    Raises:
        OSError: it cannot be read.
    """
    content: dict[str, Any] = json.loads(read(staging.store, f"{staging.path}/report.json"))
    return content


def table(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """The run's table: a row of column names, then a row for each model."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for model in report["models"]:
        rows.append(
            (
                model["model"],
                _version(model),
                f"{model['parameters']:,}",
                f"{model['worst']:.2g}" if model["worst"] is not None else "-",
                f"{sum(model['seconds'].values()):.1f}",
                model["path"] or model["failures"][0],
            )
        )
    return rows


def _version(model: dict[str, Any]) -> str:
    if model["version"] is None:
        return "refused"
    return f"{model['version']} (unchanged)" if model["unchanged"] else str(model["version"])


def as_markdown(report: dict[str, Any]) -> str:
    """The report for people: the table, then every figure of the gate by model."""
    lines = ["# Report", "", *markdown_table(table(report))]
    for model in report["models"]:
        lines += ["", f"## {model['model']}", ""]
        lines += [f"- refused: {failure}" for failure in model["failures"]]
        if model["unchanged"]:
            lines.append("- unchanged: published before with the same content; nothing was written")
        if model["hub_handle"]:
            lines.append(f"- hub handle: {model['hub_handle']}")
        checkpoint = model["checkpoint"]
        trained = "trained" if checkpoint["trained"] else "not trained"
        lines += [
            f"- weights: {checkpoint['source']} ({trained}), SHA-256 {checkpoint['sha256']}",
            *(f"- weights: {note}" for note in checkpoint["notes"]),
            f"- products of the signatures: {model['compute_dtype']}, for {model['profile']}",
            f"- size: {model['bytes']:,} bytes",
            f"- compared on {model['images']} images, attention on {model['attention_images']}",
            *_accuracy(model),
            "- seconds: "
            + ", ".join(f"{step} {seconds:.1f}" for step, seconds in model["seconds"].items()),
        ]
        lines += [f"- undecodable: {image}" for image in model["bad_images"]]
        figures = [
            (
                figure["signature"],
                figure["output"],
                f"{figure['difference']:.2g}",
                f"{figure['bound']:.2g}",
                figure["image"],
            )
            for figure in model["figures"]
        ]
        if figures:
            header = ("signature", "output", "worst difference", "tolerance", "image")
            lines += ["", *markdown_table([header, *figures])]
    return "\n".join(lines) + "\n"


def _accuracy(model: dict[str, Any]) -> list[str]:
    if not model["labelled"]:
        return []
    return [f"- top-1: right on {model['correct']} of {model['labelled']} labelled images"]
