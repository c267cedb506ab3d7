"""The player in a real browser: what people do with the mouse and the keyboard."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser import FILM, needs_chromium, stands_at, told

pytestmark = needs_chromium


def test_dragging_on_the_losses_moves_everything(browse):
    page = browse("/overview?run=small&step=0&example=48%2B76")
    stands_at(page, 0)
    stage = page.locator(".stage.timeline")
    box = stage.bounding_box()
    legend = page.locator(".key b").first
    before = legend.text_content()
    page.mouse.move(box["x"] + 60, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 100, steps=5)
    stands_at(page, 20)
    assert legend.text_content() != before
    page.mouse.move(box["x"] + box["width"] - 17, box["y"] + 100, steps=5)
    stands_at(page, 40)
    page.mouse.up()
    told(page, 40)
    stands_at(page, 40)


def test_keys_step_jump_and_play(browse):
    page = browse("/overview?run=small&step=0")
    for key, step in (("ArrowRight", 10), ("ArrowRight", 20), ("ArrowLeft", 10), ("End", 40), ("Home", 0)):
        page.keyboard.press(key)
        stands_at(page, step)
    told(page, 0)
    for start in ("Home", "End"):
        page.keyboard.press(start)
        page.keyboard.press("Space")
        expect(page.locator(".play svg path")).to_have_attribute("d", "M3 2h4v12H3zM9 2h4v12H9z")
        stands_at(page, 40)
        told(page, 40)


def test_keys_work_after_any_click(browse):
    """Space plays and arrows step, whatever was clicked before."""
    page = browse("/overview?run=small&step=20")
    chart = page.locator(".stage.timeline")
    for clicked in (
        page.get_by_role("slider", name="Snapshot"),
        page.get_by_role("button", name="log", exact=True),
        page.get_by_text("no carry"),
        chart,
    ):
        clicked.click()
        page.keyboard.press("End")
        stands_at(page, 40)
        page.keyboard.press("ArrowLeft")
        stands_at(page, 30)
        page.keyboard.press("Space")
        stands_at(page, 40)
    typed = page.get_by_role("textbox").first
    typed.fill("48+76")
    typed.press("Enter")
    expect(page.locator(".token.prompt")).to_have_text(list("48+76="))
    page.keyboard.press("Home")
    stands_at(page, 0)


def test_typing_is_not_taken_for_keys_of_the_player(browse):
    page = browse("/overview?run=small&step=20")
    typed = page.get_by_role("textbox").first
    typed.fill("48 + 76")
    typed.press("ArrowLeft")
    typed.press("Enter")
    expect(page.locator(".token.prompt")).to_have_text(list("48+76="))
    stands_at(page, 20)


def test_buttons_and_slider_of_the_transport(browse):
    page = browse("/overview?run=small&step=20")
    page.get_by_role("button", name="Step forward").click()
    stands_at(page, 30)
    page.get_by_role("button", name="Step back").click()
    stands_at(page, 20)
    slider = page.get_by_role("slider", name="Snapshot")
    slider.fill("4")
    stands_at(page, 40)
    assert slider.get_attribute("aria-valuetext") == "step 40"
    page.get_by_label("Speed").select_option("4")
    page.get_by_role("button", name="Play").click()
    stands_at(page, 40)
    told(page, 40)


def test_curves_can_be_hidden_and_drawn_on_a_log_scale(browse):
    page = browse("/overview?run=finite&step=0")
    stage = page.locator(".stage.timeline canvas").first
    seen = {"linear": stage.screenshot()}
    page.get_by_role("button", name="log", exact=True).click()
    expect(page.get_by_role("button", name="log", exact=True)).to_have_attribute("aria-pressed", "true")
    seen["log"] = stage.screenshot()
    page.locator(".key").first.click()
    expect(page.locator(".key").first).to_have_attribute("aria-pressed", "false")
    seen["without the first"] = stage.screenshot()
    assert len(set(seen.values())) == 3


def test_a_map_tells_its_values_and_can_be_enlarged(browse):
    page = browse("/heads?run=small&step=40")
    stage = page.locator(".panel.heatmaps .stage")
    stage.scroll_into_view_if_needed()
    stage.hover(position={"x": 30, "y": 50})
    tip = page.locator(".panel.heatmaps .tip")
    expect(tip).to_contain_text("L0H0  query")
    expect(tip).to_contain_text(": 1")  # the first query can only look at the first key
    small = stage.bounding_box()
    stage.click(position={"x": 30, "y": 50})
    expect(stage).to_have_class("stage zoomed")
    stage.click(position={"x": 60, "y": 60})
    expect(stage).to_have_class("stage zoomable")
    assert stage.bounding_box()["height"] == small["height"]


def test_the_seismograph_is_a_timeline_that_tells_values_and_marks(browse):
    page = browse("/losses?run=small&step=0")
    stage = page.locator(".panel.raster .stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 16)
    expect(page.locator(".panel.raster .tip")).to_contain_text(" left")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 16, steps=4)
    stands_at(page, 40)
    page.mouse.up()
    told(page, 40)


def test_flags_on_the_losses_say_what_falls_there(browse):
    page = browse("/overview?run=learnt&step=0")
    page.wait_for_function(f"() => {FILM}?.player?.panels[1]?.x !== undefined")
    where = page.evaluate(
        f"const curves = {FILM}.player.panels[1];"
        "(({ label, step }) => ({ label, step, x: curves.x(step), y: curves.box.top }))(curves.panel.marks[0])"
    )
    page.locator(".panel.curves .stage").hover(position={"x": where["x"], "y": where["y"]})
    tip = page.locator(".panel.curves .tip")
    expect(tip).to_have_text(f"{where['label']} at step {where['step']}")


def test_a_map_can_have_the_scale_of_its_snapshot_and_tells_true_values_in_any(browse):
    page = browse("/heads?run=learnt&step=0")
    page.get_by_test_id("stMain").get_by_text("scores", exact=True).click()
    heading = page.locator(".panel.heatmaps h3")
    expect(heading).to_contain_text("before softmax")
    stage = page.locator(".panel.heatmaps .stage")
    stage.scroll_into_view_if_needed()
    fixed = stage.locator("canvas").nth(1).screenshot()
    place = {"x": 30, "y": 50}
    stage.hover(position=place)
    told_before = page.locator(".panel.heatmaps .tip").text_content()
    page.get_by_role("button", name="rescale").click()
    stage.hover(position=place)
    expect(page.locator(".panel.heatmaps .tip")).to_have_text(told_before)
    page.mouse.move(0, 0)
    assert stage.locator("canvas").nth(1).screenshot() != fixed


def test_columns_and_points_tell_their_values(browse):
    page = browse("/components?run=small&step=40")
    columns = page.locator(".panel.columns .stage")
    columns.hover(position={"x": 60, "y": 60})
    expect(page.locator(".panel.columns .tip")).to_contain_text("component embedding:")
    page.get_by_role("link", name="Weights").click()
    page.wait_for_url("**/weights?*")
    page.wait_for_function(f"() => {FILM}?.player?.panels.some((panel) => panel.panel.kind === 'scatter' && panel.box)")
    x, y = page.evaluate(f"{FILM}.player.panels.find((panel) => panel.panel.kind === 'scatter').places()[0]")
    page.locator(".panel.scatter .stage").hover(position={"x": x, "y": y})
    expect(page.locator(".panel.scatter .tip")).to_contain_text("weights at step 40: PC1")


def test_points_tell_their_colour_and_are_hidden_with_their_category(browse):
    page = browse("/activations?run=small&step=40&form=scatter")
    scatter = f"{FILM}.player.panels.find((panel) => panel.panel.kind === 'scatter')"
    page.wait_for_function(f"() => {FILM}?.player?.panels.some((panel) => panel.panel.kind === 'scatter' && panel.box)")
    x, y = page.evaluate(f"{scatter}.places()[0]")
    page.locator(".panel.scatter .stage").hover(position={"x": x, "y": y})
    expect(page.locator(".panel.scatter .tip")).to_contain_text("right answer")
    answer = page.locator(".panel.scatter .tip").inner_text().rsplit(" ", 1)[1]
    key = page.locator(".panel.scatter .key").get_by_text(answer, exact=True)
    n_shown = f"{scatter}.places().filter((_, p) => {scatter}.shown()(p)).length"
    before = page.evaluate(n_shown)
    key.click()
    expect(key).to_have_attribute("aria-pressed", "false")
    assert 0 <= page.evaluate(n_shown) < before
    key.click()
    assert page.evaluate(n_shown) == before


def test_the_timeline_of_another_run_moves_both(browse):
    page = browse("/compare?run=small&step=0")
    expect(page.locator(".panel pre")).to_have_text("small at step 0    finite at step 0")
    stage = page.locator(".panel.curves .stage").nth(2)  # the losses of the run beside
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 80, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 17, box["y"] + 60, steps=4)
    page.mouse.up()
    stands_at(page, 40)  # both have one axis, which goes on to the last step of the longer run
    expect(page.locator(".panel pre")).to_have_text("small at step 40    finite at step 30")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", ["losses", "components", "weights", "fourier", "circuits", "cut", "compare"])
def test_every_canvas_has_something_on_it(browse, place, scheme):
    page = browse(f"/{place}?run=small&step=20", color_scheme=scheme)
    page.wait_for_function(f"() => {FILM}?.player && {FILM}.player.painted === {FILM}.player.index")
    empty = page.evaluate(
        f"{FILM}.player.panels.filter((panel) => panel.stage).filter((panel) => panel.canvases.some((canvas) =>"
        "!canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte)"
        ")).map((panel) => panel.panel.title)"
    )
    assert empty == []
    assert page.evaluate(f"{FILM}.scrollWidth <= {FILM}.clientWidth + 1")


def test_switches_of_one_panel_are_not_those_of_another(browse):
    """Losses share theirs on all pages; what is measured at snapshots has its own, and no logarithm below zero."""
    page = browse("/weights?run=small&step=20")
    norms = page.locator(".panel.curves").filter(has_text="Norm of each parameter")
    norms.get_by_role("button", name="log").click()
    expect(norms.get_by_role("button", name="log")).to_have_attribute("aria-pressed", "true")
    components = page.locator(".panel.curves").filter(has_text="Principal components")
    expect(components.get_by_role("button", name="log")).to_have_count(0)
    losses = page.locator(".panel.curves").first
    expect(losses.get_by_role("button", name="log")).to_have_attribute("aria-pressed", "false")
    losses.get_by_role("button", name="log").click()
    page.get_by_role("link", name="Components").click()
    page.wait_for_url("**/components?*")
    expect(page.locator(".panel.columns")).to_be_visible()
    first = page.locator(".panel.curves").first
    expect(first.get_by_role("button", name="log")).to_have_attribute("aria-pressed", "true")


def test_the_player_fills_the_screen_larger_and_still_follows_the_mouse(browse):
    page = browse("/overview?run=small&step=0")
    page.keyboard.press("f")
    page.wait_for_function(
        f"() => {{ const film = {FILM}; return film.matches(':fullscreen') && film.player.zoom > 1; }}"
    )
    box = page.locator(".stage.timeline").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4)
    stands_at(page, 20)
    page.keyboard.press("f")
    page.wait_for_function(f"() => {{ const film = {FILM}; return !film.matches(':fullscreen'); }}")
    stands_at(page, 20)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_theme(browse, scheme):
    page = browse("/heads?run=small&step=40", color_scheme=scheme)
    # The middle of the first map's upper right corner lies in the future: it shows the page itself.
    ink = page.evaluate(
        f"const film = {FILM};"
        """
            const player = film.player, panel = player.panels[1], box = panel.boxes[0];
            const [, , rows] = panel.panel.values.shape;
            const ratio = devicePixelRatio, size = box.h / rows;
            const at = (row, column) => [...panel.top.getImageData(
                (box.x + (column + 0.5) * size) * ratio, (box.y + (row + 0.5) * size) * ratio, 1, 1).data];
            ({ mode: player.theme.mode, attended: at(0, 0), future: at(0, 5) })
        """
    )
    assert ink["mode"] == scheme
    assert ink["future"][3] == 0
    brightness = sum(ink["attended"][:3]) / 3
    assert brightness < 80 if scheme == "light" else brightness > 200


def test_a_narrow_window_puts_panels_below_each_other(browse):
    page = browse("/overview?run=small&step=0")
    page.set_viewport_size({"width": 700, "height": 1000})
    page.wait_for_function(
        f"() => {{ const film = {FILM};"
        """
            const [, curves, bars] = [...film.querySelectorAll('.panel')].map((p) => p.getBoundingClientRect());
            return bars.top >= curves.bottom && film.scrollWidth <= film.clientWidth + 1;
        }"""
    )
    stands_at(page, 0)


def test_answers_within_a_text_are_marked_where_they_stand(browse):
    page = browse("/overview?run=copies&step=40&example=wxyz%20abcd%20abcd")
    # The last cell is what the model says after the end.
    expect(page.locator(".strip .token")).to_have_text(["⊢", *"wxyz␣abcd␣abcd", re.compile(".")])
    given = page.locator(".token.given")
    expect(given).to_have_text([*"abcd"])  # each follows from the first abcd
    wrong = given.and_(page.locator(".wrong"))
    assert wrong.count() >= 1
    assert all(token.get_attribute("data-said") for token in wrong.all())
    right = given.and_(page.locator(".right"))
    assert all(token.get_attribute("data-said") == "" for token in right.all())


def test_curves_of_one_group_share_an_entry_of_the_legend(browse):
    page = browse("/overview?run=copies&step=40")
    keys = page.locator(".panel.curves .key")
    expect(keys).to_have_text([re.compile(name) for name in (r"^all\d", r"^copy 1\d", r"^copy 2\d")])
    stage = page.locator(".stage.timeline canvas").first
    before = stage.screenshot()
    keys.nth(1).click()
    expect(keys.nth(1)).to_have_attribute("aria-pressed", "false")
    assert stage.screenshot() != before
    keys.nth(2).hover()
    described = re.compile("copy 2, mean of 7 curves at step 39: [0-9.]+ nats, smoothed")
    expect(keys.nth(2)).to_have_attribute("title", described)
