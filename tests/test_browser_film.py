"""Films in an exported page in a real browser: the page shows and reports the values of the film."""

import itertools
import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from explorer.film.film import Film
from explorer.film.panels.bars import Bars
from explorer.film.panels.columns import Columns
from explorer.film.panels.curves import Curves, Line
from explorer.film.panels.diagram import Diagram
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.panel import GAP
from explorer.film.panels.raster import Raster
from explorer.film.panels.scatter import Scatter
from explorer.film.panels.text import Text
from explorer.film.panels.tokens import Tokens
from explorer.runs import Runs
from explorer.views import activations, losses, overview
from explorer.views.subject import Subject
from tests.browser import PLAYER, maps_of, needs_chromium, seek, stands_at, told
from tests.conftest import SHIPPED

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def trigrams() -> Subject:
    return Subject.load(Runs(SHIPPED).open("skip-trigram"))


def pointed(page: Page, row: int, column: int) -> str:
    """The tooltip of the first map with the mouse on a cell."""
    x, y = page.evaluate(
        f"(() => {{ const panel = {PLAYER}.panels.find((panel) => panel.panel.kind === 'heatmaps');"
        "const box = panel.boxes[0], { rows, columns } = panel.panel;"
        f"return [box.x + ({column} + 0.5) * box.w / columns.length,"
        f"box.y + ({row} + 0.5) * box.h / rows.length]; }})()"
    )
    page.locator(".panel.heatmaps .stage").hover(position={"x": x, "y": y})
    return page.locator(".panel.heatmaps .tip").inner_text()


def test_a_gap_is_hatched_and_said_to_be_one(play):
    """Each kind of panel in two frames of values and, between them, one without."""
    rng, labels = np.random.default_rng(0), ["a", "b"]
    ones, at = np.ones((2, 2)), np.array([0, 20])
    line = Line("norm", at, np.array([1.0, 2.0]), 0)
    whole = Film(
        (0, 20),
        [
            Tokens("tokens", "Tokens", ["1"], np.array([[0], [1]]), np.ones((2, 1)), [1], [1], labels),
            Curves("curves", "Curves", [line], "norm", by_frame=True),
            Raster("raster", "Raster", labels, at, ones, 0.0, 1.0, "norm", by_frame=True),
            Bars("bars", "Bars", np.ones((2, 2, 2)), ["one", "two"], labels, [0, 1]),
            Columns("columns", "Columns", labels, ["W_E"], np.ones((2, 1, 2)), "norm", "number"),
            Heatmaps("maps", "Maps", ["L0H0"], np.ones((2, 1, 2, 2)), labels, labels, "query", "key", 0.0, 1.0),
            Scatter("scatter", "Scatter", labels, rng.random((2, 2)), rng.random((2, 2)), "x", "y"),
            Text("text", "Text", ["one", "two"]),
            Diagram(
                *("diagram", "Diagram", labels, ["one"], ["a"], 0, [1], ["L0H0"], [0], [0]),
                *(np.ones((2, 1, 1, 2)), np.ones((2, 1, 1)), np.ones((2, 1)), 1.0, "logits"),
            ),
        ],
    )
    page = play(whole.with_gaps([10]))
    canvases = ["curves", "raster", "bars", "columns", "heatmaps", "scatter"]

    def colours(kind: str) -> set[tuple[int, ...]]:
        """The colours on screen along a line through the plot at a third of its height, at the step of the gap."""
        shot = page.evaluate(
            f"(() => {{ const panel = {PLAYER}.panels.find((panel) => panel.panel.kind === '{kind}');"
            "const box = panel.boxes?.[0] ?? panel.box, ratio = panel.base.canvas.width / panel.width;"
            "const timeline = panel.stepAt !== undefined;"
            "const [x, w] = timeline ? [panel.x(12), 40] : [box.left ?? box.x, box.side ?? box.w ?? box.cell ?? 80];"
            "const y = (box.top ?? box.y) + 40;"
            "const context = timeline ? panel.base : panel.top;"
            "const { data } = context.getImageData(x * ratio, y * ratio, w * ratio, 1);"
            "return Array.from({ length: data.length / 4 }, (_, i) => [...data.slice(4 * i, 4 * i + 4)]); })()"
        )
        return {tuple(pixel) for pixel in shot}

    wash = (243, 245, 247, 255)
    for kind in set(canvases) - {"curves", "raster"}:
        assert wash not in colours(kind), kind  # a panel with values is not hatched
    seek(page, 1)
    for kind in canvases:
        found = colours(kind)
        assert wash in found, kind
        assert any(max(pixel[:3]) < 243 for pixel in found), kind  # the lines of the hatching
        label = page.locator(f".panel.{kind}").get_attribute("aria-label")
        assert label == f"{kind.capitalize() if kind != 'heatmaps' else 'Maps'}: {GAP}"
    assert page.locator(".panel.text pre").inner_text() == GAP
    answer = page.locator(".token.answer")
    assert answer.inner_text() == "–"
    assert "gap" in answer.get_attribute("class")
    assert answer.get_attribute("title") == GAP
    assert page.locator(".strip").get_attribute("aria-label") == f"1 {GAP}"
    assert page.locator(".panel.curves .key b").inner_text() == "–"
    assert pointed(page, 0, 0) == GAP
    x, y = page.evaluate(
        f"(() => {{ const {{ box }} = {PLAYER}.panels[1]; return [{PLAYER}.panels[1].x(11), box.top + 9]; }})()"
    )
    page.locator(".panel.curves .stage").hover(position={"x": x, "y": y})
    assert page.locator(".panel.curves .tip").inner_text() == "no finite values at step 10"
    seek(page, 2)
    assert page.locator(".panel.heatmaps").get_attribute("aria-label") == "Maps"
    assert answer.inner_text() == "b"
    assert pointed(page, 0, 0).endswith(": 1")


def test_small_gradients_keep_four_digits_under_the_pointer_in_every_frame(play, trigrams):
    text = next(iter(trigrams.task.examples.values()))
    film = activations.film(trigrams, text, "blocks.0.hook_resid_post", "gradient")
    panel = maps_of(film)
    late = trigrams.steps.index(1000)
    assert 0 < np.nanmax(np.abs(panel.values[late])) < 1e-5  # a millionth of the largest
    page = play(film)
    read = page.evaluate(
        f"(() => {{ const {{ find }} = {PLAYER}.panels.find((panel) => panel.panel.kind === 'heatmaps');"
        f"return Array.from({{ length: {len(film.steps)} }}, (_, frame) =>"
        f"Array.from({{ length: {panel.values[0, 0].size} }}, (_, cell) => find.value(frame, 0, cell))); }})()"
    )
    np.testing.assert_allclose(np.array(read), panel.values[:, 0].reshape(len(film.steps), -1), rtol=1e-6)
    for frame in (0, late, len(film.steps) - 1):
        seek(page, frame)
        row, column = np.unravel_index(np.abs(panel.values[frame, 0]).argmax(), panel.values.shape[2:])
        said = float(pointed(page, row, column).split(": ")[-1])
        assert said == pytest.approx(float(panel.values[frame, 0, row, column]), rel=1e-6)


def test_rescale_fits_the_colours_to_the_snapshot_on_screen(play, trigrams):
    text = next(iter(trigrams.task.examples.values()))
    film = activations.film(trigrams, text, "blocks.0.hook_resid_post", "gradient")
    late = trigrams.steps.index(1000)
    values = maps_of(film).values[late, 0]
    row, column = np.unravel_index(np.abs(values).argmax(), values.shape)
    page = play(film, 1000)
    seek(page, late)

    def colour() -> list[int]:
        return page.evaluate(
            f"(() => {{ const panel = {PLAYER}.panels.find((panel) => panel.panel.kind === 'heatmaps');"
            "const box = panel.boxes[0], { rows, columns } = panel.panel;"
            f"return [...panel.top.getImageData(box.x + ({column} + 0.5) * box.w / columns.length,"
            f"box.y + ({row} + 0.5) * box.h / rows.length, 1, 1).data]; }})()"
        )

    pale = colour()
    page.locator(".panel.heatmaps").get_by_role("button", name="rescale").click()
    page.wait_for_function(f"{PLAYER}.painted === {late}")
    full = colour()
    ramp = page.evaluate(f"[...new Uint8Array(new Uint32Array({PLAYER}.theme.ramps.diverging).buffer)]")
    ends = [ramp[:4], ramp[-4:]]
    assert sum(pale[:3]) > 700  # almost the page's white
    assert full in ends
    most = page.locator(".panel.heatmaps .push span").last.inner_text()
    assert float(most) == pytest.approx(np.abs(values).max(), rel=0.05)


def test_a_smoothed_curve_its_legend_and_its_flag_are_one_number_on_both_scales(play):
    subject = Subject.load(Runs(SHIPPED).open("addition"))
    film = losses.film(subject, "12345+67890")
    shown = next(panel for panel in film.panels if isinstance(panel, Curves))
    page = play(film, subject.steps[20])
    frame = page.evaluate(f"{PLAYER}.index")
    key = page.locator(".panel.curves").first.locator(".key").filter(has_text="tens")
    (line,) = [line for line in shown.lines if line.label == "tens"]
    value = float(line.smoothed[np.searchsorted(line.steps, film.steps[frame], side="right") - 1])
    seen = []
    for _ in range(2):
        key.hover()
        seen.append((key.inner_text(), key.get_attribute("title")))
        said = float(re.search(r": ([\d.e-]+) nats, smoothed", seen[-1][1])[1])
        assert said == pytest.approx(value, rel=1e-6)
        page.locator(".panel.curves").first.get_by_role("button", name="log").click()
        page.mouse.move(0, 0)
    assert seen[0] == seen[1]
    # The flag stands within the deepest fall of the table.
    (mark,) = [mark for mark in shown.marks if mark.group == "tens"]
    (deepest,) = [phase for phase in losses.phases(subject) if phase.name == "tens" and phase.is_deepest]
    assert deepest.begins < mark.step < deepest.ends


def test_a_film_plays_offline_from_one_file(play, subject):
    page = play(overview.film(subject, "48+76"), 10, color_scheme="dark")
    stands_at(page, 10)
    assert page.title() == "A <film> & more"
    assert page.evaluate(f"{PLAYER}.theme.mode") == "dark"
    page.get_by_label("Speed").select_option("4")
    page.keyboard.press("Home")
    stands_at(page, 0)
    page.keyboard.press("Space")
    stands_at(page, 40)
    expect(page.locator(".token.prompt")).to_have_text(list("48+76="))
    assert page.get_by_role("button", name="Copy link").count() == 0  # nobody else can open this file
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{PLAYER}.theme.mode === 'light'")
    assert page.evaluate(
        f"{PLAYER}.panels.filter((panel) => panel.stage).every((panel) => panel.canvases.every((canvas) =>"
        "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte)))"
    )


def test_a_part_that_is_clicked_stands_out_in_every_panel_and_follows_the_answer(play, subject):
    page = play(overview.film(subject, "48+76"), 10)
    diagram = f"{PLAYER}.panels.find(({{ panel }}) => panel.kind === 'diagram')"

    def click(place: str) -> None:
        x, y = page.evaluate(f"(() => {{ const {{ x, y, w, h }} = {place}; return [x + w / 2, y + h / 2]; }})()")
        page.locator(".panel.diagram .stage").click(position={"x": x, "y": y})

    def frame_of_map() -> bool:
        """Whether the frame of the map of L1H0 has the colour of what is chosen."""
        return page.evaluate(
            f"(() => {{ const panel = {PLAYER}.panels.find(({{ panel }}) => panel.kind === 'heatmaps');"
            "const box = panel.boxes[2], ratio = devicePixelRatio;"
            "const [r, g, b] = panel.base.getImageData((box.x - 1) * ratio, (box.y + box.h / 2) * ratio, 1, 1).data;"
            "return `rgb(${r}, ${g}, ${b})` === panel.theme.cursor; })()"
        )

    assert not frame_of_map()
    click(f"{diagram}.at.parts[{diagram}.panel.parts.indexOf('L1H0')]")
    assert page.evaluate(f"{PLAYER}.chosen") == "L1H0"
    assert frame_of_map()
    assert page.evaluate("window.phaseChangeExplorer.switchesText()") == "all.chosen:L1H0"
    expect(page.get_by_role("button", name="ablate")).to_have_count(0)  # a file cannot compute anything anew
    first = page.evaluate(f"{diagram}.answer")
    click(f"{diagram}.at.answers[{(first + 1) % 3}]")
    assert page.evaluate(f"{diagram}.answer") == (first + 1) % 3
    assert page.evaluate(f"{diagram}.summary()").startswith(subject.task.encode("48+76").places[(first + 1) % 3])
    page.keyboard.press("Escape")
    assert page.evaluate(f"{PLAYER}.chosen") is None
    assert not frame_of_map()


def test_on_a_stage_no_type_is_smaller_than_28_pixels_and_leaving_restores_all(play, subject):
    page = play(overview.film(subject, "48+76"), 10)
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.evaluate(
        "window.sizes = []; const fill = CanvasRenderingContext2D.prototype.fillText;"
        "CanvasRenderingContext2D.prototype.fillText = function (...text) {"
        "window.sizes.push(parseFloat(this.font.match(/[\\d.]+px/)[0])); fill.apply(this, text); }; 0"
    )
    page.keyboard.press("F")
    page.wait_for_selector(".film.on-stage")
    page.evaluate("window.sizes.length = 0")
    for _ in range(4):
        page.keyboard.press("n")
    page.wait_for_function("window.sizes.length > 10")
    assert min(page.evaluate("window.sizes")) * page.evaluate(f"{PLAYER}.zoom") >= 28
    assert page.evaluate(
        "[...document.querySelectorAll('.film *')].filter((node) => node.checkVisibility() && node.offsetParent &&"
        "[...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()) && !node.closest('.unseen'))"
        ".every((node) => parseFloat(getComputedStyle(node).fontSize) >= (node.currentCSSZoom > 1 ? 14 : 28))"
    )
    assert page.evaluate(f"{PLAYER}.root.scrollHeight <= {PLAYER}.root.clientHeight")
    expect(page.locator(".headline strong")).to_have_text("A <film> & more")
    page.keyboard.press("f")
    page.wait_for_selector(".film:not(.on-stage)")
    assert page.evaluate(f"[{PLAYER}.room, {PLAYER}.leastType, {PLAYER}.zoom]") == [None, 0, 1]
    assert page.locator(".panel:visible").count() == page.locator(".panel").count()


def test_a_film_opens_with_the_switches_of_a_link_and_reports_changes(play, subject):
    switches = (("losses", "log", True), ("patterns", "enlarged", "L1H0"), ("losses", "hidden", ["units"]))
    page = play(overview.film(subject, "48+76"), switches=switches)
    said = "window.phaseChangeExplorer.switchesText()"
    assert page.evaluate(said) == "losses.hidden:units losses.log patterns.enlarged:L1H0"
    expect(page.locator(".panel.heatmaps .stage")).to_have_class("stage zoomed")
    expect(page.locator(".key").filter(has_text="units")).to_have_attribute("aria-pressed", "false")
    page.evaluate(f"window.told = []; window.phaseChangeExplorer.onSwitches = () => window.told.push({said})")
    page.get_by_role("button", name="log").click()
    page.get_by_role("button", name="smooth").click()
    page.keyboard.press("Escape")
    page.locator(".key").filter(has_text="units").click()
    page.locator(".key").filter(has_text="tens").click()
    heard = [text for text, _ in itertools.groupby(page.evaluate("window.told"))]
    assert heard[-5:] == [
        "losses.hidden:units patterns.enlarged:L1H0",
        "losses.hidden:units losses.smooth:off patterns.enlarged:L1H0",
        "losses.hidden:units losses.smooth:off",
        "losses.smooth:off",
        "losses.hidden:tens losses.smooth:off",
    ]
    times = len(page.evaluate("window.told"))
    page.keyboard.press("End")
    page.wait_for_function(f"window.told.length > {times}")  # where the player stops


def test_the_link_to_what_is_on_screen_is_copied(browse):
    page = browse("/overview?run=small&step=20", permissions=["clipboard-read", "clipboard-write"])
    page.keyboard.press("ArrowRight")
    told(page, 30)
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator(".copier [role=status]").first).to_have_text("Link copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    page.get_by_role("button", name="Copy as a beat").click()
    expect(page.locator(".copier [role=status]").last).to_have_text("Beat copied")
    scene = f"overview?{page.url.partition('?')[2]}"
    beat = f"## Headline\n\n```scene\n{scene}\npanel: losses\n```\n"
    assert page.evaluate("navigator.clipboard.readText()") == beat
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")  # as over http elsewhere
    page.get_by_role("button", name="Copy link").click()
    field = page.get_by_role("textbox", name="Copy link to what is on screen")
    expect(field).to_have_value(page.url)
    assert field.evaluate("(field) => field.selectionEnd - field.selectionStart") == len(page.url)
    page.keyboard.press("Escape")
    expect(field).to_have_count(0)


def test_a_link_that_is_copied_before_the_address_is_written_has_the_step_on_screen(browse):
    page = browse("/overview?run=small&step=20", permissions=["clipboard-read", "clipboard-write"])
    told(page, 20)
    film = page.locator(".film")
    # One task of the browser: nothing is reported before the button is pressed.
    film.evaluate("(film) => { film.player.seek(3); film.querySelector('.copier button').click(); }")
    expect(page.locator(".copier [role=status]").first).to_have_text("Link copied")
    step = film.evaluate("(film) => film.player.film.steps[3]")
    assert step != 20
    assert "step=20" in page.url
    assert page.evaluate("navigator.clipboard.readText()") == page.url.replace("step=20", f"step={step}")


def test_a_clicked_cell_of_a_table_keeps_its_keys(browse):
    page = browse("/losses?run=learnt&step=100")
    stands_at(page, 100)
    grid = page.get_by_test_id("stDataFrame").first
    grid.scroll_into_view_if_needed()
    grid.click(position={"x": 40, "y": 50})
    chosen = grid.locator("[role=gridcell][aria-selected=true]")
    expect(chosen).to_have_count(1)
    before = chosen.get_attribute("data-testid")
    page.keyboard.press("ArrowRight")
    expect(chosen).not_to_have_attribute("data-testid", before)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Home")
    stands_at(page, 100)
    page.locator(".panel.curves .stage").first.click(position={"x": 300, "y": 100})
    page.keyboard.press("End")
    stands_at(page, 400)
