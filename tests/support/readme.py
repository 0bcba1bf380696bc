"""The commands and snippets of every page of the documentation, for the tests that run them.

tests/test_documentation.py has what is the same for all of them. Each `test_readme.py` runs its
part.
"""

import re
import shlex

from tests.support.paths import REPOSITORY

# Name, as seen from the root -> text.
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        *sorted((REPOSITORY / "docs").glob("*.md")),
    )
}
README = PAGES["README.md"]


def blocks(language: str) -> list[str]:
    """The code blocks of all pages in this language, those that are on several pages once."""
    block = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return list(dict.fromkeys(text for page in PAGES.values() for text in block.findall(page)))


def lines() -> list[str]:
    """Every command, one a line; those that are on several pages once."""
    return list(dict.fromkeys(line for block in blocks("sh") for line in block.splitlines()))


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


def command_of(module: str) -> list[str]:
    """The arguments of the one command that runs a module, but for those of a cluster."""
    (command,) = (
        words(line)
        for line in lines()
        if words(line)[1:3] == ["-m", module] and not is_of_cluster(line) and not is_of_trust(line)
    )
    return command[3:]


def between(mark: str) -> str:
    """What one page has between two comments."""
    (page,) = (text for text in PAGES.values() if f"<!-- {mark} -->\n" in text)
    _, text, _ = re.split(rf"<!-- /?{mark} -->\n", page)
    return text


def is_of_serving(text: str) -> bool:
    """Whether a command or a snippet is run by tests/serving/test_readme.py, on a server."""
    programs = r"\bserving\.(model_server|client|attention|page)\b"
    return bool(re.search(rf"{programs}|localhost:850[01]\b", text)) and not is_of_trust(text)


def is_of_cluster(text: str) -> bool:
    """Whether a command is run by tests/cluster, or is for an engine that no test can have."""
    return bool(re.search(r"://bucket/|\bbin/dask\b", text))


def is_of_hub(text: str) -> bool:
    """Whether a command or a snippet is run by tests/serving_configs/test_readme.py."""
    own = re.search(r"-m serving_configs\b|http\.server|localhost:8000\b|boto3", text)
    return bool(own) and not is_of_trust(text)


def is_of_trust(text: str) -> bool:
    """Whether a command is of docs/trust.md, which tests/serving_configs/test_readme.py runs."""
    return bool(re.search(r"\bopenssl\b|--(sign_with|public_key|require_signature)\b", text))
