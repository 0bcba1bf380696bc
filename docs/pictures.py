"""Makes the pictures of the page and of the command in docs/attention.md anew.

    python -m docs.pictures --published build/demo/published --photograph build/demo/star.jpg

They are of the model of shapes, which was trained: `make demo` publishes it. This needs Chromium.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence

from playwright.sync_api import sync_playwright

from serving.attention.command import main as draw
from signatures.addresses import disk_path

DOCS = pathlib.Path(__file__).parent
MILLISECONDS = 300_000


def take_page(url: str, picture: pathlib.Path) -> None:
    """Takes the page in a browser, with where a patch of the photograph's middle looks."""
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser_path is None:
        sys.exit("error: no chromium on the PATH; expected one, to take the page")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path)
        tab = browser.new_page(viewport={"width": 1100, "height": 900})
        tab.set_default_timeout(MILLISECONDS)
        tab.goto(url)
        tab.locator(".view").wait_for()
        tab.locator(".stage").focus()
        tab.keyboard.press("ArrowUp")
        tab.get_by_text("looks most at").wait_for()
        # The address has another port each time.
        tab.evaluate("document.getElementById('server').textContent = 'Model server: 1 model'")
        tab.screenshot(path=picture, full_page=True)
        browser.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Makes both pictures."""
    parser = argparse.ArgumentParser(prog="python -m docs.pictures")
    parser.add_argument("--published", metavar="DIR", type=disk_path, required=True)
    parser.add_argument("--photograph", metavar="FILE", type=disk_path, required=True)
    parser.add_argument("--to", metavar="DIR", type=disk_path, default=DOCS)
    flags = parser.parse_args(argv)
    command = [
        *(sys.executable, "-m", "serving.page", "--port=0", f"--published={flags.published}"),
        f"--photograph={flags.photograph}",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        assert page.stdout is not None
        try:
            take_page(page.stdout.readline().split()[1], flags.to / "page.png")
        finally:
            page.terminate()
    version = max((flags.published / "serving" / "shapes").iterdir(), key=lambda path: path.name)
    return draw(
        [
            *(str(flags.photograph), "--saved_model", str(version)),
            *("--output", str(flags.to / "attention.png")),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
