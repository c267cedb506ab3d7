"""A story as one HTML file in a real browser, without a network."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import needs_chromium
from tests.short_story import exported

pytestmark = needs_chromium
PLAYER = "document.querySelector('.deck').deck.player"
VEILED = 2  # the beat with a veil, which is at step 20
PHONE = {"width": 390, "height": 844}
# Of 60 frames of the browser while the film plays, the share in which it was painted.
PAINTS = """() => {
    let [isPainted, painted, frames] = [false, 0, 0];
    document.querySelector('.film').addEventListener('painted', () => (isPainted = true));
    const look = () => {
        painted += isPainted;
        isPainted = false;
        if (frames++ < 60) requestAnimationFrame(look);
        else window.share = painted / 60;
    };
    requestAnimationFrame(look);
}"""
# How many pixels after a step have a curve's colour, rather than a grey one.
COLOURED = f"""(step) => {{
    const {{ base, box, x }} = {PLAYER}.panels[0];
    const ratio = base.canvas.width / {PLAYER}.panels[0].width;
    const [left, bottom] = [(x(step) + 3) * ratio, (box.bottom + 4) * ratio];
    const {{ data }} = base.getImageData(left, 0, base.canvas.width - left, bottom);
    const pixels = Array.from({{ length: data.length / 4 }}, (_, i) => data.slice(4 * i, 4 * i + 4));
    return pixels.filter(([r, g, b, a]) => a && Math.max(r, g, b) - Math.min(r, g, b) > 40).length;
}}"""
SMALLEST = """() => Math.min(...[...document.querySelectorAll('.deck *')]
    .filter((node) => node.checkVisibility({ checkVisibilityCSS: true }) && !node.closest('.unseen, select'))
    .filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
    .map((node) => parseFloat(getComputedStyle(node).fontSize)))"""


@pytest.fixture(scope="module")
def file(tmp_path_factory, subject) -> Path:
    return exported(tmp_path_factory.mktemp("story"), subject)


@pytest.fixture
def tell(chromium: Browser, file) -> Iterator:
    """Opens the story: ``tell(viewport=...)``."""
    contexts, errors, asked = [], [], []

    def tell(**options) -> Page:
        context = chromium.new_context(**{"viewport": {"width": 1400, "height": 900}, "offline": True, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector(".film[data-step='20']")  # it has glided there from the first step
        return page

    yield tell
    for context in contexts:
        context.close()
    assert errors == []
    assert set(asked) == {file.as_uri()}  # nothing is loaded from anywhere else


def test_a_story_plays_offline_from_one_file(tell):
    page = tell()
    page.get_by_role("button", name="step 30").click()
    page.wait_for_selector(".film[data-step='30']")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".film[data-step='20']")
    page.keyboard.press("End")
    assert page.locator(".more").inner_text() == ""
    assert page.evaluate(f"{PLAYER}.last") == 2
    page.keyboard.press("r")
    page.wait_for_selector(".film[data-step='40']")
    assert page.locator(".more").inner_text().startswith("It is ")
    page.keyboard.press("Space")
    page.wait_for_selector(".panel.heatmaps")
    assert page.locator(".panel").count() == 2  # the maps, and the slim timeline
    assert page.locator("a").count() == 0  # nothing leads out of the file


def test_arrows_and_space_go_from_beat_to_beat(tell):
    page = tell()
    pressed = {"ArrowRight": 2, "Space": 3, "ArrowLeft": 2, "PageUp": 1, "PageDown": 2}
    for key, beat in pressed.items():
        page.keyboard.press(key)
        page.wait_for_selector(f".deck[data-beat='{beat}']")
        assert (
            page.locator(".dots button").evaluate_all(
                "(dots) => 1 + dots.findIndex((dot) => dot.getAttribute('aria-current') === 'step')"
            )
            == beat
        )


def test_every_frame_is_painted_while_a_beat_plays(tell):
    page = tell()
    page.get_by_label("Speed").select_option("0.25")
    page.keyboard.press("Home")
    page.keyboard.press("p")
    page.wait_for_function(f"() => {PLAYER}.playing")
    page.evaluate(PAINTS)
    page.wait_for_function("window.share !== undefined")
    assert page.evaluate("window.share") >= 50 / 60
    assert page.evaluate(f"{PLAYER}.playing")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_veil_hides_the_future_until_the_reveal(tell, scheme):
    page = tell(color_scheme=scheme, reduced_motion="reduce")
    assert page.evaluate(COLOURED, 20) > 0  # nothing is covered on the beat before
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f".deck[data-beat='{VEILED}']")
    assert page.evaluate(COLOURED, 20) == 0
    expect(page.locator(".more")).to_be_empty()
    page.get_by_role("button", name="Reveal").click()
    page.wait_for_selector(".film[data-step='40']")
    assert page.evaluate(COLOURED, 20) > 0
    expect(page.locator(".more")).to_contain_text("It is ")


def test_a_story_can_be_read_on_a_phone(tell):
    page = tell(viewport=PHONE, reduced_motion="reduce")
    page.evaluate(
        "window.sizes = []; const fill = CanvasRenderingContext2D.prototype.fillText;"
        "CanvasRenderingContext2D.prototype.fillText = function (...text) {"
        "window.sizes.push(parseFloat(this.font.match(/[\\d.]+px/)[0])); fill.apply(this, text); }; 0"
    )
    for beat in (1, 2, 3):
        page.wait_for_selector(f".deck[data-beat='{beat}']")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert page.evaluate(SMALLEST) >= 14
        if beat < 3:
            page.get_by_role("button", name="Next →").click()
    page.wait_for_function("window.sizes.length > 10")
    assert min(page.evaluate("window.sizes")) >= 14


@pytest.mark.parametrize("screen", [{"width": 1280, "height": 720}, {"width": 1920, "height": 1080}])
def test_a_beat_fits_a_full_screen_and_is_large_there(tell, screen):
    page = tell(viewport=screen, reduced_motion="reduce")
    page.keyboard.press("f")
    page.wait_for_selector(".deck.full")
    page.wait_for_function(f"Math.abs({PLAYER}.zoom - innerWidth / 960) < 0.001")
    smallest = page.evaluate(f"{PLAYER}.leastType * {PLAYER}.zoom") * 1920 / screen["width"]
    assert smallest == pytest.approx(28, rel=1e-3)
    bottom = page.locator(".transport").evaluate("(transport) => transport.getBoundingClientRect().bottom")
    assert 0.85 * screen["height"] < bottom <= screen["height"]
    for beat in (1, 2, 3):
        page.wait_for_selector(f".deck[data-beat='{beat}']")
        left = page.evaluate("document.querySelector('.deck').scrollHeight - innerHeight")
        assert left <= 0
        page.keyboard.press("ArrowRight")
