"""The hub's pages as HTML beside the Markdown, for a browser. They need no server."""

import pathlib
import re
from collections.abc import Mapping

import markdown  # type: ignore[import-untyped]

from ..rendering import render

# A link to another page, from page to page.
_PAGE = re.compile(r'href="(?![a-z]+:)([^"#]+)\.md"')
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


def html_pages(pages: Mapping[str, str]) -> dict[str, str]:
    """The path of every page -> its text as HTML.

    Args:
        pages: path of each page in Markdown, ending with `.md` -> its text. Links between pages are
            relative and end with `.md`.
    """
    return {
        pathlib.PurePosixPath(path).with_suffix(".html").as_posix(): _as_html(text)
        for path, text in pages.items()
    }


def index_page(collection: str) -> str:
    """The page that a browser opens first, which leads to another one.

    Args:
        collection: path of that page from here.
    """
    return render("index.html.j2", target=collection)


def _as_html(text: str) -> str:
    title = _TITLE.search(text)
    body = markdown.markdown(text, extensions=["tables", "fenced_code"], output_format="html")
    return render(
        "page.html.j2",
        title=title[1] if title else "",
        body=_PAGE.sub(r'href="\1.html"', body),
    )
