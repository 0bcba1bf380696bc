"""What the page looks like in a real browser: sizes, columns, the keyboard, colours."""

import pathlib
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import CHROMIUM, SLOW, choose, shown_of
from tests.support.model_server import Running, publish, running
from tests.support.page_process import page_process

pytestmark = [pytest.mark.needs_program(*CHROMIUM), pytest.mark.slow]

TALL = 3.0  # times as high as wide, with all that is shown around the crop


@pytest.mark.parametrize(("width", "height"), [(400, 800), (1200, 800)])
def test_nothing_is_clipped_and_a_tall_photograph_leaves_room(
    server: Running, opened: Page, tmp_path: pathlib.Path, width: int, height: int
) -> None:
    opened.set_viewport_size({"width": width, "height": height})
    tall = tmp_path / f"{'a very long name ' * 6}.png"
    Image.new("RGB", (40, 400), "teal").save(tall)
    choose(opened, tall)
    shown_of(opened, tall)
    models = opened.get_by_label("Beside it")
    for other in ("", "cait_fe/1"):
        models.select_option(other)
        expect(opened.locator(".view")).to_have_count(2 if other else 1)
        # Nothing is wider than the window, or than the box that it is in.
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        clipped = opened.evaluate(
            """() => [...document.querySelectorAll("body *")].filter((e) =>
                 e.checkVisibility() && e.scrollWidth > e.clientWidth + 1 && e.clientWidth
                 && getComputedStyle(e).display !== "inline" && e.tagName !== "SELECT"
               ).map((e) => e.tagName + "." + e.className)"""
        )
        assert clipped == []
        box = opened.locator(".stage").first.bounding_box()
        controls = opened.locator(".controls").first.bounding_box()
        assert box is not None
        assert controls is not None
        assert box["height"] == pytest.approx(TALL * box["width"], rel=0.02)
        # One look at the window has the photograph and all of its controls.
        assert controls["y"] + controls["height"] - box["y"] <= height


def test_two_versions_stand_side_by_side(
    tiny_models: dict[Any, pathlib.Path],
    tmp_path: pathlib.Path,
    browser: Browser,
    photo: pathlib.Path,
) -> None:
    """Every version that is loaded, with its labels: a canary beside what is stable."""
    for number in ("1", "2"):
        (tmp_path / "cait").mkdir(exist_ok=True)
        publish(tmp_path / "cait" / number, tiny_models["classifier"])
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "cait" base_path: "{tmp_path}/cait" '
        'model_platform: "tensorflow" model_version_policy { specific { versions: 1 versions: 2 } }'
        ' version_labels { key: "stable" value: 1 } version_labels { key: "try-out" value: 2 } } }'
    )
    flags = {"allow_version_labels_for_unavailable_models": True}
    with (
        running(model_config_file=str(config), **flags) as server,
        page_process(f"--server=localhost:{server.port}", f"--models_from={config}") as (url, _),
    ):
        tab = browser.new_page()
        tab.set_default_timeout(SLOW)
        tab.goto(url)
        choose(tab, photo)
        shown_of(tab, photo)
        models = tab.get_by_label("Model and version")
        names = ["cait version 2, try-out", "cait version 1, stable"]
        assert models.locator("option").all_inner_texts() == names
        models.select_option(names[1])
        tab.get_by_label("Beside it").select_option(names[0])
        views = tab.locator(".view")
        expect(views).to_have_count(2)
        expect(tab.get_by_role("listitem")).to_have_count(10)
        expect(views.locator("h2")).to_have_text([*reversed(names)])
        first, second = (view.bounding_box() for view in views.all())
        assert first is not None
        assert second is not None
        assert first["y"] == second["y"]
        assert first["x"] + first["width"] <= second["x"]
        # A patch that is pointed at in one is shown in both.
        stage = tab.get_by_role("application", name="Photograph")
        stage.first.focus()
        tab.keyboard.press("ArrowUp")
        for shown in tab.locator(".shown").all():
            expect(shown).to_contain_text("row 1, column 1 looks most at")
        tab.keyboard.press("Escape")
        for shown in tab.locator(".shown").all():
            expect(shown).to_contain_text("Saliency")
        tab.get_by_label("Beside it").select_option("no other")
        expect(views).to_have_count(1)
        tab.close()


def test_it_can_be_used_by_keyboard_alone_in_light_and_dark(
    server: Running, opened: Page, photo: pathlib.Path
) -> None:
    choose(opened, photo)
    expect(opened.get_by_role("listitem")).to_have_count(5)
    opened.get_by_label("Photograph (JPEG or PNG)").focus()
    reached = []
    for _ in range(9):
        reached.append(
            opened.evaluate("(e => e.id || e.className || e.type)(document.activeElement)")
        )
        opened.keyboard.press("Tab")
    assert reached == [
        "photo",
        "model",
        "other",
        "stage",
        "opacity",
        "block",
        "head",
        *["button"] * 2,
    ]
    opened.keyboard.press("Space")
    expect(opened.get_by_role("button", pressed=True)).to_have_count(1)
    # Contrast of text and quiet text with the page, by WCAG's formula; 4.5 is its level AA.
    for scheme, brighter in (("light", False), ("dark", True)):
        opened.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page_colour = colour(opened, "body", "backgroundColor")
        for part in ("h1", ".hint", "#server", "label"):
            text = colour(opened, part, "color")
            assert (luminance(text) > luminance(page_colour)) == brighter
            levels = sorted((luminance(text), luminance(page_colour)))
            assert (levels[1] + 0.05) / (levels[0] + 0.05) >= 4.5, (scheme, part)


def colour(tab: Page, part: str, name: str) -> list[int]:
    text = tab.locator(part).first.evaluate(f"e => getComputedStyle(e).{name}")
    return [int(number) for number in re.findall(r"\d+", text)[:3]]


def luminance(rgb: list[int]) -> float:
    part = np.array(rgb) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
