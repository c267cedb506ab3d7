"""What a panel offers to take away, in an exported page in a real browser."""

import base64
import csv
import re
import struct
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from playwright.sync_api import expect

from explorer.film.film import Film
from explorer.film.panels.heatmaps import Heatmaps
from explorer.views import overview
from tests.browser import maps_of, needs_chromium, stands_at

pytestmark = needs_chromium

SEEN = """async (data) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const video = document.createElement('video');
    video.src = URL.createObjectURL(new Blob([bytes], { type: 'video/webm' }));
    await new Promise((loaded, failed) => { video.onloadeddata = loaded; video.onerror = failed; });
    video.currentTime = 60;  // the file does not say how long it lasts, its end does
    await new Promise((sought) => { video.onseeked = sought; });
    return { width: video.videoWidth, height: video.videoHeight, lasts: video.currentTime };
}"""


def test_a_panel_is_taken_away_as_it_is_on_screen(play, subject, tmp_path):
    film = replace(overview.film(subject, "48+76"), origin=subject.origin)
    page = play(film, 10)
    panel = maps_of(film)

    def taken(choice: str) -> bytes:
        page.get_by_role("button", name=f"Take away: {panel.title}").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=choice).click()
        assert download.value.suggested_filename.startswith(f"a-film-more-{panel.id}-step-000010.")
        download.value.save_as(tmp_path / "taken")
        return (tmp_path / "taken").read_bytes()

    png = taken("PNG")
    width, height = struct.unpack(">II", png[16:24])
    stage = page.locator(".panel.heatmaps .stage").bounding_box()
    assert width == 2 * (round(stage["width"]) + 32)  # with a margin of 16 pixels
    assert height > 2 * (stage["height"] + 60)  # with the title and the step
    svg = ElementTree.fromstring(taken("SVG"))
    texts = {node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {*panel.title.split(), "step 10", "query ↓   key →", *panel.maps} <= texts | set(panel.title.split())
    assert not any("NaN" in value for node in svg.iter() for value in node.attrib.values())
    rows = list(csv.DictReader(taken("Numbers of this frame").decode().splitlines()))
    values = panel.values[list(film.steps).index(10)]
    np.testing.assert_array_equal([np.float32(row["value"]) for row in rows], values[np.isfinite(values)])
    # By keyboard: the table of numbers, and an enlarged map.
    page.get_by_role("button", name=f"Take away: {panel.title}").press("Enter")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    table = page.get_by_role("region", name=f"Numbers: {panel.title}")
    expect(table.locator("caption")).to_contain_text("step 10")
    figure = page.get_by_role("figure", name=panel.title)
    figure.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".panel.heatmaps .stage")).to_have_class("stage zoomed")
    page.keyboard.press("ArrowRight")
    expect(table.locator("caption")).to_contain_text("step 20")
    expect(figure.locator(".unseen")).to_contain_text("step 20: ")
    # Where it comes from takes the place of the table.
    page.get_by_role("button", name=f"Take away: {panel.title}").press("Enter")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(table).to_have_count(0)
    told = page.get_by_role("region", name=f"Where this comes from: {panel.title}")
    rows = told.locator("tr").evaluate_all("(rows) => rows.map((row) => [...row.cells].map((cell) => cell.innerText))")
    assert rows[0] == ["Shown", panel.title]
    assert ["Step", "20"] in rows
    assert dict(rows)["Run"] == film.origin["Run"]


def test_the_size_of_a_large_file_is_told_before_it_is_taken(play, subject, tmp_path):
    values = np.random.default_rng(0).random((len(subject.steps), 2, 60, 60), np.float32)
    numbers = [str(i) for i in range(60)]
    maps = Heatmaps("maps", "Maps", ["one", "two"], values, numbers, numbers, "row", "column", 0.0, 1.0)
    page = play(Film(subject.steps, [maps]), 10)
    page.get_by_role("button", name="Take away: Maps").click()
    expect(page.locator("[role=menu][data-told]")).to_be_visible()
    choice = page.get_by_role("menuitem", name="Numbers of all frames")
    said = re.fullmatch(r"Numbers of all frames \(CSV\), about ([0-9.]+) MiB", choice.inner_text())
    with page.expect_download() as download:
        choice.click()
    download.value.save_as(tmp_path / "taken")
    assert said
    assert float(said[1]) == pytest.approx((tmp_path / "taken").stat().st_size / 2**20, rel=0.1, abs=0.06)


def test_a_browser_that_cannot_record_says_so(play, subject):
    page = play(overview.film(subject, "48+76"), 10)
    page.evaluate("() => { delete window.MediaRecorder; }")
    page.locator(".panel.diagram").get_by_role("button", name="Take away").click()
    page.get_by_role("menuitem", name="Video of the film").click()
    expect(page.locator(".panel.diagram .said")).to_contain_text("This browser cannot record WebM. Open the page in")


def test_the_diagram_and_maps_are_recorded_as_videos(play, chromium, subject, tmp_path):
    viewer = chromium.new_page()
    page = play(overview.film(subject, "48+76"), 10)
    page.get_by_label("Speed").select_option("4")
    for kind in ("diagram", "heatmaps"):
        page.locator(f".panel.{kind}").get_by_role("button", name="Take away").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name="Video of the film").click()
        assert download.value.suggested_filename.endswith("-all-steps.webm")
        download.value.save_as(tmp_path / "taken.webm")
        video = base64.b64encode((tmp_path / "taken.webm").read_bytes()).decode()
        seen = viewer.evaluate(SEEN, video)
        assert seen["width"] > 600
        assert seen["height"] > 100
        assert seen["lasts"] > 2  # 12 seconds at four times the speed
        stands_at(page, 10)  # where the film was
    viewer.close()
