"""A tab of a browser with the page in it."""

import pathlib
from typing import Any

from playwright.sync_api import Page, expect

CHROMIUM = ("chromium", "chromium-browser")
SLOW = 120_000  # milliseconds; nothing here waits that long unless it fails

expect.set_options(timeout=SLOW)


def choose(tab: Page, photo: pathlib.Path | dict[str, Any]) -> None:
    expect(tab.get_by_label("Model and version")).to_be_enabled()
    tab.get_by_label("Photograph (JPEG or PNG)").set_input_files(photo)  # type: ignore[arg-type]


def shown_of(tab: Page, photo: pathlib.Path) -> None:
    """Waits until the results are of this photograph, whatever was shown before."""
    expect(tab.locator(".view .file").first).to_have_text(photo.name)
    expect(tab.locator(".view").first).to_be_visible()
