"""The page in a real browser, in front of a real server."""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from serving.attention.figure import COLOURS
from serving.attention.loaded import loaded_model
from serving.attention.maps import patch_attention_maps, scaled
from serving.attention.photograph import read_photograph
from tests.support.model_server import Running, publish, running
from tests.support.page_process import page_process
from tests.support.programs import require_program

CHROMIUM = ("chromium", "chromium-browser")
SLOW = 120_000  # milliseconds; nothing here waits that long unless it fails

pytestmark = [pytest.mark.needs_program(*CHROMIUM), pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Without windows, a sandbox, which root has none of, and calls home: Playwright's defaults.
        browser = playwright.chromium.launch(
            executable_path=require_program(*CHROMIUM), args=["--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """The page in a new tab. Whatever it does, no script fails and nothing comes from elsewhere."""
    context = browser.new_context()
    context.set_default_timeout(SLOW)
    tab = context.new_page()
    errors: list[str] = []
    asked: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(url)
    yield tab
    context.close()
    assert errors == []
    assert [address for address in asked if not address.startswith((url, "data:"))] == []


expect.set_options(timeout=SLOW)


def pixels(tab: Page, canvas: str) -> Any:
    """What a canvas shows, uint8 (height, width, 3)."""
    width, values = tab.locator(canvas).evaluate(
        "c => [c.width, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]"
    )
    return np.uint8(values).reshape(-1, width, 4)[..., :3]


def coloured(values: Any) -> Any:
    """A map as the page is to show it: scaled by itself, in 256 steps of the colour map."""
    return mpl.colormaps[COLOURS](np.rint(scaled(values) * 255).astype(int), bytes=True)[..., :3]


def choose(tab: Page, photo: pathlib.Path | dict[str, Any]) -> None:
    expect(tab.get_by_label("Model and version")).to_be_enabled()
    tab.get_by_label("Photograph (JPEG or PNG)").set_input_files(photo)  # type: ignore[arg-type]


def shown_of(tab: Page, photo: pathlib.Path) -> None:
    """Waits until the results are of this photograph, whatever was shown before."""
    expect(tab.locator(".view .file").first).to_have_text(photo.name)
    expect(tab.locator(".view").first).to_be_visible()


def test_a_photograph_shows_labels_and_maps(
    server: Running, opened: Page, photo: pathlib.Path, tiny_models: dict[Any, pathlib.Path]
) -> None:
    expect(opened.get_by_text(re.compile(r"Model server localhost:\d+: 2 models"))).to_be_visible()
    choose(opened, photo)
    shown_of(opened, photo)
    labels = opened.get_by_role("listitem")
    expect(labels).to_have_count(5)
    with loaded_model(tiny_models["classifier"]) as model:
        photograph = read_photograph(photo.read_bytes(), model.image_size)
        result = model.explain(photograph)
        attention = model.self_attention(photograph, 1)
    assert result.best is not None
    for item, (label, probability) in zip(labels.all(), result.best, strict=True):
        expect(item).to_contain_text(label)
        expect(item).to_contain_text(f"{100 * probability:.1f} %")
    # Bars from 0 to 100 %.
    for bar, (_, probability) in zip(opened.locator(".best .bar").all(), result.best, strict=True):
        whole, part = (found.bounding_box() for found in (bar, bar.locator("div")))
        assert whole is not None
        assert part is not None
        expected = max(probability * whole["width"], 2)
        assert part["width"] == pytest.approx(expected, abs=0.1)
    expect(opened.locator(".axis").first).to_have_text("0 %100 %")

    np.testing.assert_array_equal(pixels(opened, ".picture"), photograph.shown)
    np.testing.assert_array_equal(pixels(opened, ".overlay"), coloured(result.saliency.clip(0, 1)))
    for block, maps in enumerate(result.maps):
        for head, values in enumerate(maps):
            button = opened.get_by_role(
                "button", name=f"Class-attention block {block}, head {head},"
            )
            button.click()
            expect(button).to_have_attribute("aria-pressed", "true")
            np.testing.assert_array_equal(pixels(opened, ".overlay"), coloured(values))
            thumbnail = f".thumbnails:nth-of-type({block + 1}) button:nth-of-type({head + 1})"
            np.testing.assert_array_equal(pixels(opened, f"{thumbnail} canvas"), coloured(values))
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    np.testing.assert_array_equal(pixels(opened, ".overlay"), coloured(result.saliency.clip(0, 1)))

    opened.get_by_label("Opacity of the map").fill("25")
    expect(opened.locator(".overlay")).to_have_css("opacity", "0.25")

    # A patch under the mouse, then its neighbour by the keyboard, in another block and one head.
    box = opened.locator(".overlay").bounding_box()
    assert box is not None
    opened.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    shown = opened.locator(".shown")
    expect(shown).to_contain_text("row 0, column 1 looks most at")
    opened.mouse.move(0, 0)
    expect(shown).to_contain_text("Saliency")
    stage = opened.get_by_role("application", name="Photograph")
    stage.focus()
    for key, place in (("ArrowUp", "1, column 1"), ("ArrowDown", "1, column 1")):
        opened.keyboard.press(key)
        expect(shown).to_contain_text(f"row {place} looks most at")
    opened.keyboard.press("ArrowLeft")
    expect(shown).to_contain_text("row 1, column 0 looks most at")
    opened.get_by_label("Self-attention block of the patch").select_option("self-attention block 1")
    expect(shown).to_contain_text("(self-attention block 1, mean of all heads)")
    maps = patch_attention_maps(attention, 1, 0)
    np.testing.assert_array_equal(pixels(opened, ".overlay"), coloured(maps.mean(0)))
    opened.get_by_label("Its head").select_option("head 1")
    expect(shown).to_contain_text("(self-attention block 1, head 1)")
    np.testing.assert_array_equal(pixels(opened, ".overlay"), coloured(maps[1]))
    most = np.unravel_index(maps[1].argmax(), maps[1].shape)
    expect(shown).to_contain_text(f"looks most at row {most[0]}, column {most[1]}")
    stage.focus()
    opened.keyboard.press("Escape")
    expect(shown).to_contain_text("Saliency")


def test_another_model_is_chosen(server: Running, opened: Page, photo: pathlib.Path) -> None:
    choose(opened, photo)
    expect(opened.get_by_role("listitem")).to_have_count(5)
    models = opened.get_by_label("Model and version")
    assert models.locator("option").all_inner_texts() == ["cait version 1", "cait_fe version 1"]
    models.select_option("cait_fe version 1")
    expect(opened.get_by_text("it names no classes")).to_be_visible()
    warning = opened.get_by_text(
        "This model is not trained: the weights are random and the answers"
    )
    expect(warning).to_be_visible()
    expect(opened.get_by_role("listitem")).to_have_count(0)
    expect(opened.get_by_role("button", name=re.compile("^Class-attention block"))).to_have_count(4)
    models.select_option("cait version 1")
    expect(opened.get_by_role("listitem")).to_have_count(5)
    expect(opened.get_by_text("it names no classes")).to_be_hidden()
    expect(warning).to_be_hidden()


def test_a_version_that_is_loading_is_not_to_be_chosen(
    server: Running, opened: Page, config: pathlib.Path
) -> None:
    options = opened.get_by_label("Model and version").locator("option")
    expect(options).to_have_text(["cait version 1", "cait_fe version 1"])
    # Its load fails, and it stays in loading until it is tried again.
    broken = config.parent / "cait" / "2"
    broken.mkdir()
    try:
        expect(options).to_have_text(
            ["cait version 2 (loading)", "cait version 1", "cait_fe version 1"]
        )
        expect(options.first).to_be_disabled()
        expect(opened.get_by_label("Model and version")).to_have_value("cait/1")
    finally:
        broken.rmdir()


def test_the_server_goes_and_comes_back(
    port: int, config: pathlib.Path, opened: Page, photo: pathlib.Path
) -> None:
    problem = opened.get_by_role("alert")
    expect(problem).to_contain_text(f"localhost:{port}: no model server answers there")
    expect(opened.get_by_label("Model and version")).to_be_disabled()
    # What is chosen meanwhile is looked at when it is there.
    opened.get_by_label("Photograph (JPEG or PNG)").set_input_files(photo)
    with running(port=port, model_config_file=str(config)):
        expect(problem).to_be_hidden()
        expect(opened.get_by_role("listitem")).to_have_count(5)
    expect(problem).to_contain_text("no model server answers there")
    expect(opened.get_by_role("listitem")).to_have_count(5)
    with running(port=port, model_config_file=str(config)):
        expect(problem).to_be_hidden()
        opened.get_by_label("Model and version").select_option("cait_fe version 1")
        expect(opened.get_by_text("it names no classes")).to_be_visible()


def test_a_broken_image_is_named_and_the_next_one_is_shown(
    server: Running, opened: Page, photo: pathlib.Path
) -> None:
    choose(opened, photo)
    expect(opened.get_by_role("listitem")).to_have_count(5)
    problem = opened.get_by_role("alert")
    for content, message in {
        b"no image": "The image cannot be read: a file that begins with b'no image'; expected a",
        photo.read_bytes()[:4000]: "The image cannot be read: ",
        b"": "The image cannot be read: an empty file;",
    }.items():
        choose(opened, {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": content})
        expect(problem).to_contain_text(message)
        expect(opened.locator("#results")).to_be_hidden()
    choose(opened, photo)
    expect(opened.get_by_role("listitem")).to_have_count(5)
    expect(problem).to_be_hidden()


def test_a_photograph_is_dropped(server: Running, opened: Page, photo: pathlib.Path) -> None:
    expect(opened.get_by_label("Model and version")).to_be_enabled()
    dropped = opened.evaluate_handle(
        """bytes => {
          const transfer = new DataTransfer();
          const content = [new Uint8Array(bytes)];
          transfer.items.add(new File(content, "dropped.jpg", { type: "image/jpeg" }));
          return transfer;
        }""",
        list(photo.read_bytes()),
    )
    opened.dispatch_event("body", "drop", {"dataTransfer": dropped})
    expect(opened.get_by_role("heading", name="What it looks at in dropped.jpg")).to_be_visible()
    chosen = opened.get_by_label("Photograph (JPEG or PNG)")
    assert chosen.evaluate("input => [...input.files].map(file => file.name)") == ["dropped.jpg"]
    expect(opened.get_by_role("listitem")).to_have_count(5)


def test_a_sample_is_ready_at_the_start(server: Running, opened: Page) -> None:
    expect(opened.get_by_role("heading", name="What it looks at in cat.jpg")).to_be_visible()
    expect(opened.get_by_role("listitem")).to_have_count(5)
    expect(opened.get_by_role("heading", name=re.compile(r"^cait version 1$"))).to_be_visible()


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
