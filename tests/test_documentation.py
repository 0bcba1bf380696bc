"""The pages of the documentation: README.md, CONTRIBUTING.md and docs/.

Every command and every snippet is run by a test. Which one runs it is decided by its kind, and
what is of no kind fails here.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.paths import REPOSITORY
from tests.support.readme import (
    PAGES,
    README,
    is_of_cluster,
    is_of_hub,
    is_of_serving,
    is_of_trust,
    lines,
    words,
)

PACKAGES = ("benchmarks", "export", "pipelines", "serving", "serving_configs", "signatures")
FOLDERS = (*PACKAGES, "docs", "examples", "tests")
SVGS = {path.name: path.read_text(encoding="utf-8") for path in (REPOSITORY / "docs").glob("*.svg")}


def of_module(name: str) -> Callable[[str], bool]:
    start = [".venv/bin/python", "-m", name]

    def is_of_module(line: str) -> bool:
        return words(line)[:3] == start and not is_of_cluster(line) and not is_of_trust(line)

    return is_of_module


# The test that runs the commands of a kind -> the kind. Each test looks at all of its kind.
KINDS: dict[str, Callable[[str], bool]] = {
    "tests/serving/test_readme.py": is_of_serving,
    "tests/serving_configs/test_readme.py": is_of_hub,
    "tests/serving_configs/test_readme.py, signed versions": is_of_trust,
    "tests/cluster, and tests/pipelines/test_readme.py for their flags": is_of_cluster,
    "tests/pipelines/test_readme.py, publish": of_module("pipelines.publish"),
    "tests/pipelines/test_readme.py, verify": of_module("pipelines.verify"),
    "tests/pipelines/test_fetch_weights.py": of_module("pipelines.fetch_weights"),
    "tests/pipelines/evaluate/test_readme_accuracy.py, evaluate": of_module("pipelines.evaluate"),
    "tests/pipelines/evaluate/test_readme_accuracy.py, sample": of_module("pipelines.sample_shard"),
    "tests/examples/test_shapes.py, train": of_module("examples.train_shapes"),
    "tests/examples/test_shapes.py, draw": of_module("examples.draw_shapes"),
    "make": lambda line: words(line)[0] == "make",
    "pytest": of_module("pytest"),
}


@pytest.mark.parametrize("line", lines(), ids=lambda line: line[-60:])
def test_every_command_is_run_by_a_test(line: str) -> None:
    assert [kind for kind, has in KINDS.items() if has(line)], "no test runs this command"
    assert sum(has(line) for has in KINDS.values()) == 1


@pytest.mark.parametrize("page", PAGES)
def test_code_is_where_the_tests_find_it(page: str) -> None:
    """Blocks that begin a line, in a language whose blocks are run or that is none."""
    fences = re.findall(r"^([ \t]*)(```|~~~)(.*)$", PAGES[page], re.MULTILINE)
    opening, closing = fences[::2], fences[1::2]
    assert {fence[:2] for fence in fences} <= {("", "```")}
    assert {language for *_, language in opening} <= {"sh", "python", "text"}
    assert {language for *_, language in closing} <= {""}
    assert len(opening) == len(closing)


MAKE = [words(line)[1:] for line in lines() if KINDS["make"](line)]


def test_make_targets() -> None:
    """The targets that a test may not run, for what they cost, are these, and are there."""
    assert MAKE == [
        ["export"],
        ["demo"],
        ["test"],
        ["lint"],
        ["check"],
        ["test-cluster"],
        ["docs"],
        ["cluster"],
        ["wheel"],
    ]
    for targets in MAKE:
        subprocess.run(
            ["make", "--dry-run", *targets], cwd=REPOSITORY, capture_output=True, check=True
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [line for line in lines() if KINDS["pytest"](line)], ids=lambda line: line[-60:]
)
def test_command_of_pytest_runs(line: str) -> None:
    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    done = subprocess.run(
        [sys.executable, *words(line)[1:]],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)


def spans(text: str) -> list[str]:
    """What is written as code within sentences, by its words."""
    return [word for span in re.findall(r"`([^`]+)`", text) for word in span.split()]


@pytest.mark.parametrize("page", PAGES)
def test_named_files_are_there(page: str) -> None:
    paths = [word for word in spans(prose(page)) if word.split("/")[0] in FOLDERS and "/" in word]
    missing = [path for path in paths if not (REPOSITORY / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", [*PAGES, *SVGS])
def test_named_modules_are_there(page: str) -> None:
    found = (
        spans(prose(page))
        if page in PAGES
        else re.findall(r'font-family="monospace".*?>(.+?)<', SVGS[page])
    )
    packages = "|".join(PACKAGES)
    names = [name for name in found if re.fullmatch(rf"({packages})(\.[a-z]\w*)+", name)]
    missing = [name for name in names if not is_module(name)]
    assert not missing


def is_module(name: str) -> bool:
    path = REPOSITORY / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """On GitHub, where they are relative to the page."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (REPOSITORY / page).parent / name if name else REPOSITORY / page
        assert path.is_file(), target
        if anchor:
            assert anchor in anchors(path), target


def anchors(path: pathlib.Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in headings}


def test_front_page_is_short_and_leads_to_every_page() -> None:
    assert len(README.splitlines()) < 150
    for page in PAGES:
        assert page == "README.md" or f"]({page})" in README


def build_site(root: pathlib.Path, site: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does, but for where it is written.

    With --quiet, mkdocs would not count its warnings, and let dead links through.
    """
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={site}"],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def sources(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of what the site is made from."""
    root = tmp_path / "sources"
    shutil.copytree(REPOSITORY / "docs", root / "docs")
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(REPOSITORY / name, root)
    return root


@pytest.mark.slow
def test_site_has_every_page_and_needs_no_network(tmp_path: pathlib.Path) -> None:
    site = tmp_path / "site"
    done = build_site(REPOSITORY, site)
    assert done.returncode == 0, done.stderr
    pages = {path.name: path.read_text(encoding="utf-8") for path in site.glob("*.html")}
    names = {pathlib.Path(page).stem.lower() for page in PAGES} - {"readme"}
    assert set(pages) == {f"{name}.html" for name in names | {"index", "404"}}
    assert not list(site.rglob("*.py"))
    for text in pages.values():
        loaded = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"?([^\" >]+)", text)
        assert loaded
        assert not [address for address in loaded if "//" in address]
        # The theme loads their script from a network.
        assert 'class="mermaid"' not in text


@pytest.mark.slow
def test_dead_links_fail(sources: pathlib.Path) -> None:
    targets = []
    for page in ("README.md", "CONTRIBUTING.md", "docs/serve.md"):
        name = page.lower().replace("/", "-").removesuffix(".md")
        mine = [f"{name}-dead.md", f"{name}-dead.png", f"#{name}-dead"]
        with (sources / page).open("a", encoding="utf-8") as file:
            file.writelines(f"\n[A dead link]({target}).\n" for target in mine)
        targets += mine
    done = build_site(sources, sources / "site")
    assert done.returncode != 0
    assert not [target for target in targets if f"'{target}'" not in done.stderr]
