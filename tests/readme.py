"""The README's commands and snippets, for the tests that run them."""

import re
import shlex

from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def lines() -> list[str]:
    """Every command, one a line."""
    return [line for block in blocks("sh") for line in block.splitlines()]


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


def between(mark: str) -> str:
    _, text, _ = re.split(rf"<!-- /?{mark} -->\n", README)
    return text


def is_of_serving(text: str) -> bool:
    """Whether a command or a snippet is run by tests/serving/test_readme.py, on a server."""
    programs = r"\bserving\.(model_server|client|attention|page)\b"
    return bool(re.search(rf"{programs}|localhost:850[01]\b", text))


def is_of_hub(text: str) -> bool:
    """Whether a command or a snippet is run by tests/serving_configs/test_readme.py."""
    return bool(re.search(r"-m serving_configs\b|http\.server|localhost:8000\b|boto3", text))
