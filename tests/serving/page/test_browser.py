"""The page in a real browser, in front of a real server."""

import pathlib
import re
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from serving.attention.figure import COLOURS
from serving.attention.loaded import loaded_model
from serving.attention.maps import patch_attention_maps, scaled
from serving.attention.photograph import read_photograph
from tests.support.browser import CHROMIUM, choose, shown_of
from tests.support.model_server import Running, running

pytestmark = [pytest.mark.needs_program(*CHROMIUM), pytest.mark.slow]


def pixels(tab: Page, canvas: str) -> Any:
    """What a canvas shows, uint8 (height, width, 3)."""
    width, values = tab.locator(canvas).evaluate(
        "c => [c.width, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]"
    )
    return np.uint8(values).reshape(-1, width, 4)[..., :3]


def coloured(values: Any) -> Any:
    """A map as the page is to show it: scaled by itself, in 256 steps of the colour map."""
    return mpl.colormaps[COLOURS](np.rint(scaled(values) * 255).astype(int), bytes=True)[..., :3]


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
