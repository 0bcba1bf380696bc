"""Puts the pages at the root of the repository into the site, as mkdocs asks its hooks for them.

Their links are relative to the root, so that they work on GitHub. In the site they are relative to
docs/, and so is a link to one of them.
"""

import pathlib

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# At the root -> in the site.
ROOT_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    root = pathlib.Path(config.docs_dir).parent
    for name, page in ROOT_PAGES.items():
        content = (root / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to the pages to where they are in the site."""
    for name, target in ROOT_PAGES.items():
        markdown = markdown.replace(f"](../{name}", f"]({target}").replace(
            f"]({name}", f"]({target}"
        )
    return markdown
