"""The panels of sweeps in an exported page in a real browser: their colours, tooltips, keys and counts."""

import csv
import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from explorer.film.film import Film
from explorer.film.palette import for_player
from explorer.film.panels.panel import GAP
from tests.browser import PLAYER, needs_chromium, seek
from tests.films import KINDS, plane, strip

pytestmark = needs_chromium
PLANE = f"{PLAYER}.panels.find(({{ panel }}) => panel.kind === 'plane')"
STRIP = f"{PLAYER}.panels.find(({{ panel }}) => panel.kind === 'strip')"


def rgb(colour: str) -> list[int]:
    return list(bytes.fromhex(colour.removeprefix("#")))


def colour_at(page: Page, panel: str, canvas: str, x: float, y: float) -> list[int]:
    return page.evaluate(
        f"(() => {{ const ratio = {panel}.base.canvas.width / {panel}.width;"
        f"return [...{panel}.{canvas}.getImageData({x} * ratio, {y} * ratio, 1, 1).data].slice(0, 3); }})()"
    )


def corner(page: Page, row: int, column: int) -> tuple[float, float]:
    """A place within a cell, beside its text and its frame."""
    x, y = page.evaluate(f"[{PLANE}.xs[{column}] + 6, {PLANE}.ys[{row} + 1] + 6]")
    return x, y


def point(page: Page, row: int, column: int) -> str:
    """The tooltip with the mouse on a cell."""
    x, y = corner(page, row, column)
    page.locator(".panel.plane .stage").hover(position={"x": x, "y": y})
    return page.locator(".panel.plane .tip").inner_text()


def asked(page: Page) -> list[str]:
    return page.evaluate("window.asked")


def listen(page: Page) -> None:
    """Do as a host that can show something else."""
    page.evaluate(f"window.asked = []; {PLAYER}.onAsk = (what) => window.asked.push(what); 0")


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_a_cell_has_the_colour_of_its_kind_in_every_frame(play, mode):
    panel, steps = plane(12)
    page = play(Film(steps, [panel]), color_scheme=mode)
    colours = [rgb(colour) for colour in for_player()[mode]["categories"]]
    for frame in (0, 5, 11, 3):
        seek(page, frame)
        for row, column in ((0, 0), (2, 1), (3, 2), (4, 3), (4, 0)):
            seen = colour_at(page, PLANE, "top", *corner(page, row, column))
            assert seen == colours[int(panel.values[frame, row, column])], (frame, row, column)
        empty = colour_at(page, PLANE, "top", *corner(page, 0, 3))
        assert empty == page.evaluate(f"{PLANE}.theme.wash.match(/\\d+/g).map(Number)")
        counts = page.locator(".panel.plane .key.kind b").all_inner_texts()
        values = panel.values[frame]
        assert [int(count) for count in counts] == [(values == kind).sum() for kind in range(len(KINDS))]


def test_a_cell_says_what_is_known_of_it_and_shows_its_curves(play):
    panel, steps = plane(12)
    page = play(Film(steps, [panel, strip()]), steps[6])
    kind = KINDS[int(panel.values[6, 2, 1])]
    said = f"weight decay 0.1, learning rate 0.0003: {kind}, {panel.agree[6, 2, 1]} of 3 seeds"
    assert point(page, 2, 1) == said  # a file cannot open anything
    assert page.evaluate(f"{PLANE}.cell") == [2, 1]
    assert point(page, 0, 3).endswith(": nothing yet")
    # The curves stay when the pointer leaves; on them, the nearest one is said.
    point(page, 3, 2)
    page.mouse.move(5, 5)
    page.wait_for_function(f"{PLANE}.hovered === null")
    assert page.evaluate(f"{PLANE}.cell") == [3, 2]
    assert page.evaluate("window.phaseChangeExplorer.switchesText()") == "plane.cell:3-2"
    place = 20
    x, y = page.evaluate(
        f"(() => {{ const panel = {PLANE}; return [panel.x({panel.points[place]}),"
        f"panel.curves.y({panel.curves[3, 2, 1, place]})]; }})()"
    )
    assert colour_at(page, PLANE, "base", x, y) == page.evaluate(f"{PLANE}.theme.ink.match(/\\d+/g).map(Number)")
    page.locator(".panel.plane .stage").hover(position={"x": x, "y": y + 12})
    tip = page.locator(".panel.plane .tip").inner_text()
    name, step, value = re.fullmatch(r"(.*) at step ([\d,]+): ([\d.e-]+) accuracy", tip).groups()
    assert (name, step) == ("unseen data", f"{panel.points[place]:,.0f}")
    assert float(value) == pytest.approx(panel.curves[3, 2, 1, place], rel=1e-5)


def test_a_drag_on_the_curves_moves_the_film_and_one_on_the_cells_does_not(play):
    panel, steps = plane(12)
    page = play(Film(steps, [panel]))
    box = page.locator(".panel.plane .stage").bounding_box()
    x, y = page.evaluate(f"[{PLANE}.x({steps[7]}), {PLANE}.box.top + 40]")
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.down()
    expect(page.locator(".film")).to_have_attribute("data-step", str(steps[7]))
    page.mouse.move(box["x"] + page.evaluate(f"{PLANE}.x({steps[9]})"), box["y"] + y)
    expect(page.locator(".film")).to_have_attribute("data-step", str(steps[9]))
    page.mouse.up()
    page.keyboard.press("ArrowLeft")  # the curves did not take the focus
    expect(page.locator(".film")).to_have_attribute("data-step", str(steps[8]))
    page.locator(".panel.plane .stage").click(position=dict(zip("xy", corner(page, 2, 1), strict=True)))
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"{PLANE}.kept.get()") == "2-2"
    expect(page.locator(".film")).to_have_attribute("data-step", str(steps[8]))


def test_a_click_and_enter_ask_for_the_run_of_a_cell(play):
    panel, steps = plane(12)
    page = play(Film(steps, [panel]), steps[6], (("plane", "cell", "4-2"),))
    stage = page.locator(".panel.plane .stage")
    assert page.evaluate(f"{PLANE}.cell") == [4, 2]  # as the link says
    stage.click(position=dict(zip("xy", corner(page, 3, 1), strict=True)))  # nobody listens: nothing happens
    listen(page)
    assert point(page, 2, 1).endswith("; click opens decay-2 rate-1")
    stage.click(position=dict(zip("xy", corner(page, 2, 1), strict=True)))
    assert asked(page) == ["open decay-2 rate-1"]
    stage.click(position=dict(zip("xy", corner(page, 0, 3), strict=True)))  # no run yet
    assert asked(page) == ["open decay-2 rate-1"]
    page.mouse.move(5, 5)
    figure = page.get_by_role("figure", name=panel.title)
    figure.focus()
    for key in ("ArrowUp", "ArrowLeft", "ArrowLeft", "ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate(f"{PLANE}.cell") == [0, 2]
    assert asked(page)[1:] == ["open decay-0 rate-2"]
    expect(figure.get_by_role("status").last).to_contain_text("weight decay 0, learning rate 0.001: ")
    expect(figure.locator("> .unseen").first).to_contain_text("Arrow keys choose a cell, Enter opens its run")
    for key in ["ArrowDown"] * 2 + ["ArrowRight"] * 3:  # the plane has ends
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    assert page.evaluate(f"{PLANE}.cell") == [0, 3]
    assert len(asked(page)) == 2
    expect(page.locator(".film")).to_have_attribute("data-step", str(steps[6]))  # the arrow keys were the plane's
    page.get_by_role("slider", name="Snapshot").click()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".film")).to_have_attribute("data-step", str(steps[10]))


def test_a_tap_shows_a_cell_and_a_second_one_opens_it(play):
    panel, steps = plane(12)
    page = play(Film(steps, [panel]), steps[6], has_touch=True)
    listen(page)
    box = page.locator(".panel.plane .stage").bounding_box()
    x, y = corner(page, 3, 1)
    page.touchscreen.tap(box["x"] + x, box["y"] + y)
    page.wait_for_function(f"String({PLANE}.cell) === '3,1'")
    assert asked(page) == []
    page.touchscreen.tap(box["x"] + x, box["y"] + y)
    page.wait_for_function("window.asked.length")
    assert asked(page) == ["open decay-3 rate-1"]


def test_text_in_a_cell_is_read_on_its_colour_and_left_out_where_it_does_not_fit(play):
    values = np.linspace(0, 1, 20).reshape(1, 5, 4)
    shown, _ = plane(1, kinds=(), values=values, agree=None, n=None, curves=None, points=None, lines=(), threshold=None)
    for mode in ("light", "dark"):
        page = play(Film([0], [shown]), color_scheme=mode)
        page.evaluate(
            "window.written = []; const write = CanvasRenderingContext2D.prototype.fillText;"
            "CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {"
            "if (this.textAlign === 'center' && /^[\\d.]+$/.test(text) && this.canvas.matches(':nth-child(2)')) {"
            "const ratio = this.getTransform().a, pixel = this.getImageData(x * ratio, (y - 12) * ratio, 1, 1).data;"
            "window.written.push([text, this.fillStyle, ...pixel.slice(0, 3)]); } write.call(this, text, x, y); };"
            f"{PLAYER}.layout(); 0"
        )
        page.wait_for_function("window.written.length >= 20")
        texts = {tuple(one) for one in page.evaluate("window.written")}
        assert {text for text, *_ in texts} == {f"{value:.3g}" for value in values.ravel()}
        for _, ink, *paper in texts:
            one, other = sorted(luminance(colour) for colour in (rgb(ink), paper))
            assert (other + 0.05) / (one + 0.05) >= 4.5
    page.set_viewport_size({"width": 330, "height": 700})
    page.wait_for_function(f"{PLANE}.width < 330")
    page.evaluate(f"window.written = []; {PLAYER}.layout(); 0")
    page.wait_for_function("window.written.length > 0")
    assert len(page.evaluate("window.written")) < 20


def luminance(colour: list[int]) -> float:
    r, g, b = (c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_a_gap_of_a_plane_is_hatched_and_said_to_be_one(play):
    panel, steps = plane(2)
    page = play(Film(steps, [panel]).with_gaps([100]))
    wash = page.evaluate(f"{PLANE}.theme.wash.match(/\\d+/g).map(Number)")
    row = f"Array.from({{ length: 30 }}, (_, i) => {PLANE}.xs[0] + 8 + i)"

    def seen() -> list[list[int]]:
        y = page.evaluate(f"{PLANE}.ys[2] - 8")
        return [colour_at(page, PLANE, "top", x, y) for x in page.evaluate(row)]

    assert wash not in seen()
    seek(page, 1)
    found = seen()
    assert wash in found
    assert any(max(colour) < 243 for colour in found)  # the lines of the hatching
    assert page.locator(".panel.plane").get_attribute("aria-label") == f"{panel.title}: {GAP}"
    assert point(page, 2, 1) == GAP
    seek(page, 2)
    assert page.locator(".panel.plane").get_attribute("aria-label") == panel.title
    assert point(page, 2, 1).startswith("weight decay 0.1")


def test_marks_of_a_strip_lie_at_their_steps_and_are_counted_as_the_cursor_reaches_them(play):
    panel = strip(2)
    steps = list(range(0, 12_001, 400))
    page = play(Film(steps, [panel]))
    places = page.evaluate(f"{STRIP}.places.map(({{ lane, mark, x, step }}) => [lane.group, lane.row, mark, x, step])")
    assert len(places) == np.isfinite(panel.marks).sum()
    first, last = page.evaluate(f"[{STRIP}.box.left, {STRIP}.box.right]")
    top = max(steps[-1], np.nanmax(panel.marks))
    for group, row, mark, x, step in places:
        assert step == panel.marks[group, row, mark]
        assert x == pytest.approx(first + (last - first) * step / top, abs=1e-6)
    page.evaluate(
        "window.written = []; const write = CanvasRenderingContext2D.prototype.fillText;"
        "CanvasRenderingContext2D.prototype.fillText = function (...text) {"
        "window.written.push(text[0]); write.apply(this, text); }; 0"
    )
    for frame in (0, 7, 30):
        page.evaluate("window.written = []; 0")
        seek(page, frame)
        reached = (panel.marks <= steps[frame]).sum(-1)  # (group, row)
        counts = [f"{reached[group, row]}/20" for row in range(6) for group in range(2)]
        assert page.evaluate("window.written")[:12] == counts
    # A mark is hollow until the cursor is there. This one lies far from its median, which is drawn over marks.
    i = max(range(len(places)), key=lambda i: places[i][4] - panel.median[places[i][0], places[i][1]])
    (group, row, mark, x, step), y = places[i], page.evaluate(f"{STRIP}.places[{i}].y")
    colour = rgb(for_player()["light"]["categories"][group])
    seek(page, 0)
    assert colour_at(page, STRIP, "top", x, y) != colour
    seek(page, 30)
    assert colour_at(page, STRIP, "top", x, y) == colour
    page.locator(".panel.strip .stage").hover(position={"x": x, "y": y})
    tip = page.locator(".panel.strip .tip").inner_text()
    assert tip == f"{panel.rows[row]}, {panel.groups[group]}: seed {mark} at step {step:,.0f}"


def test_a_lane_of_a_strip_says_its_count_and_its_median(play, tmp_path):
    panel = strip()
    steps = [0, 3000, 12_000]
    page = play(Film(steps, [panel]), 12_000)
    y = page.evaluate(f"{STRIP}.at.middle({{ group: 0, row: 4 }})")
    page.locator(".panel.strip .stage").hover(position={"x": 40, "y": y})
    median, low, high = (f"{round(values[0, 4]):,}" for values in (panel.median, panel.low, panel.high))
    said = f"ten thousands: 17 of 20 by step 12,000; median {median}, 95 % interval of the median {low} to {high}"
    assert page.locator(".panel.strip .tip").inner_text() == said
    expect(page.locator(".panel.strip > .unseen")).to_contain_text(said)

    def taken(choice: str) -> str:
        page.get_by_role("button", name=f"Take away: {panel.title}").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=choice).click()
        download.value.save_as(tmp_path / "taken")
        return (tmp_path / "taken").read_text()

    circles = re.findall(r"A ([\d.]+) [\d.]+ 0 (\d) 1 ", taken("SVG"))
    assert len(circles) == 2 * 117 + 1  # hollow and, over them, solid marks; the cursor
    assert {large for _, large in circles} == {"1"}  # whole circles
    rows = list(csv.DictReader(taken("Numbers of this frame").splitlines()))
    assert len(rows) == 6 * 23
    found = {row["what"]: row["step"] for row in rows if row["row"] == "tens"}
    assert float(found["seed 7"]) == panel.marks[0, 1, 7]
