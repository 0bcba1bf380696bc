"""The hub's pages as a site: links lead to what is there, and a browser opens it from disk."""

import html.parser
import pathlib
import re

import pytest
from playwright.sync_api import expect, sync_playwright

from serving_configs.__main__ import main
from tests.support.programs import require_program
from tests.support.trees import MODELS, TINY, add_version

CHROMIUM = ("chromium", "chromium-browser")


class Links(html.parser.HTMLParser):
    """The links and the text of the headings of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("href", "src")]


@pytest.fixture
def site(tree: pathlib.Path) -> pathlib.Path:
    """The hub of a tree with two versions of the classifier."""
    add_version(tree, TINY, 2)
    assert main(["write", str(tree)]) == 0
    return tree / "hub"


def test_every_link_leads_to_what_is_there(site: pathlib.Path) -> None:
    pages = sorted(site.rglob("*.html"))
    markdown = [page.with_suffix(".md") for page in pages if page.name != "index.html"]
    assert len(pages) == 6
    assert sorted(site.rglob("*.md")) == markdown
    linked = set()
    for page in pages:
        for link in Links(page.read_text()).found:
            assert "tfhub.dev" not in link
            if not re.match(r"https?:", link):
                target = (page.parent / link).resolve()
                assert target.is_file(), f"{page}: {link}"
                linked.add(target)
    # From the first page on, all but superseded versions.
    superseded = site / "docs" / "cait" / TINY / "1.html"
    assert linked | {site / "cait.html"} >= {
        page
        for page in pages
        if page not in (superseded, site / "index.html", site / "docs" / "cait" / "cait.html")
    }
    for page in markdown:
        for link in re.findall(r"\]\(([^)]+\.md)\)", page.read_text()):
            assert (page.parent / link).is_file(), f"{page}: {link}"


@pytest.mark.needs_program(*CHROMIUM)
def test_a_browser_opens_it_from_disk(site: pathlib.Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=require_program(*CHROMIUM), args=["--disable-gpu"]
        )
        page = browser.new_page()
        page.goto((site / "index.html").as_uri())
        expect(page).to_have_title("Collection cait/cait/1")
        page.get_by_role("link", name=MODELS[1], exact=True).first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Module cait/{MODELS[1]}/1")
        expect(page.get_by_role("table").first).to_contain_text("serving_default")
        browser.close()
