"""The rules of tfhub.dev's documentation format, as its validator checks them.

Source: tools/validator.py, tools/yaml_parser.py and tags/*.yaml of tensorflow/tfhub.dev.
"""

import pathlib
import re

_PUBLISHER = r"(?P<publisher>[a-z\d-]+)"
_NAME = r"(?P<name>[\w.-]+(/[\w.-]+)*)"
_FIRST_LINES = {
    "model": rf"# Module {_PUBLISHER}/{_NAME}/\d+",
    "collection": rf"# Collection {_PUBLISHER}/(?P<name>(\w|-|/|&|;|\.)+)/\d+",
    "publisher": rf"# Publisher {_PUBLISHER}",
}
_METADATA = re.compile(r"^<!--(?P<key>(\w|\s|-)+):(?P<value>.+)-->$")
_REQUIRED = {
    "model": {"asset-path", "fine-tunable", "format", "task"},
    "collection": {"task"},
    "publisher": set[str](),
}
_OPTIONAL = {
    "model": {
        "network-architecture",
        "colab",
        "dataset",
        "language",
        "license",
        "interactive-visualizer",
    },
    "collection": {"dataset", "language", "network-architecture"},
    "publisher": set[str](),
}
_REPEATED = {"dataset", "language", "task", "network-architecture"}
# Those of the vocabularies in tags/*.yaml that fit models such as ours.
_VOCABULARY = {
    "dataset": {"imagenet-ilsvrc-2012-cls", "imagenet-21k"},
    "task": {"image-classification", "image-feature-vector"},
    "network-architecture": {"cait"},
    "license": {"apache-2.0", "mit"},
    "fine-tunable": {"true", "false"},
    "format": {"hub", "saved_model", "saved_model_2"},
}


def problems(docs: pathlib.Path, page: pathlib.Path) -> list[str]:
    """What is wrong with a page under the directory of all pages."""
    text = page.read_text(encoding="utf-8")
    lines = text.split("\n")
    matches = {kind: re.fullmatch(line, lines[0]) for kind, line in _FIRST_LINES.items()}
    kind, match = next(((k, m) for k, m in matches.items() if m), ("", None))
    if match is None:
        return [f"first line {lines[0]!r}"]
    publisher = match["publisher"]
    found = []
    relative = page.relative_to(docs).as_posix()
    if kind == "publisher" and relative != f"{publisher}/{publisher}.md":
        found.append(f"publisher page at {relative}")
    if not relative.startswith(f"{publisher}/") or not relative.endswith(".md"):
        found.append(f"page of {publisher} at {relative}")
    if not (docs / publisher / f"{publisher}.md").is_file():
        found.append(f"no page of publisher {publisher}")
    metadata, description = _metadata(lines, found)
    if not description:
        found.append("no description")
    found += [f"{key} is missing" for key in _REQUIRED[kind] - metadata.keys()]
    allowed = _REQUIRED[kind] | _OPTIONAL[kind]
    found += [f"{key} is not supported" for key in metadata.keys() - allowed]
    for key, values in metadata.items():
        if key not in _REPEATED and len(values) > 1:
            found.append(f"{key} more than once")
        unknown = set(values) - _VOCABULARY.get(key, set(values))
        found += [f"{key} {value!r} is unknown" for value in unknown]
    for path in metadata.get("asset-path", ()):
        if not path.endswith(".tar.gz"):
            found.append(f"asset-path {path!r}")
    if kind == "collection":
        found += _links(docs, text)
    return found


def _metadata(lines: list[str], found: list[str]) -> tuple[dict[str, list[str]], str]:
    """The metadata, and the description before it."""
    index = 2 if not lines[1] else 1
    description = []
    while lines[index] and not lines[index].startswith("<!--"):
        description.append(lines[index])
        index += 1
    metadata: dict[str, list[str]] = {}
    for line in lines[index:]:
        if line.startswith("#"):
            break
        match = _METADATA.match(line)
        if match:
            metadata.setdefault(match["key"].strip(), []).append(match["value"].strip())
        elif line:
            found.append(f"unexpected line {line!r}")
    return metadata, " ".join(description)


def _links(docs: pathlib.Path, text: str) -> list[str]:
    """A collection names models, and each of them has a page."""
    models = re.findall(r"https://tfhub\.dev/([\w-]+)/([\w.-]+)/(\d+)", text)
    missing = [
        name for name in models if not (docs / "/".join(name[:2]) / f"{name[2]}.md").exists()
    ]
    return (
        [f"no page of {'/'.join(name)}" for name in missing] if models else ["no model is linked"]
    )
