"""The app in a real browser: pages, addresses and sessions."""

import shutil

from playwright.sync_api import expect

from tests.browser import FILM, SECOND, free_port, needs_chromium, place, served, stands_at, told

pytestmark = needs_chromium


def test_position_and_example_survive_a_change_of_page_and_a_copied_url(browse):
    page = browse("/overview?run=small&step=0&example=48%2B76")
    page.keyboard.press("End")
    told(page, 40)
    page.get_by_role("link", name="Heads").click()
    page.wait_for_url("**/heads?*")
    stands_at(page, 40)
    expect(page.locator(".panel.heatmaps h3")).to_contain_text("Attention patterns on 48+76")
    copied = browse(place(page))
    stands_at(copied, 40)
    expect(copied.locator(".panel.heatmaps h3")).to_contain_text("Attention patterns on 48+76")


def test_the_position_survives_a_change_of_page_while_playing(browse):
    page = browse("/overview?run=small&step=0")
    page.get_by_label("Speed").select_option("0.25")
    page.keyboard.press("Space")
    page.wait_for_function(f"() => {{ const film = {FILM}; return Number(film.dataset.step) >= 20; }}")
    page.get_by_role("link", name="Heads").click()
    page.wait_for_url("**/heads?*")
    page.wait_for_function("['20', '30', '40'].includes(new URLSearchParams(location.search).get('step'))")
    assert page.get_by_label("Speed").input_value() == "0.25"


def test_two_sessions_on_one_run_keep_their_own_step_and_example(browse):
    one, other = (
        browse("/overview?run=small&step=0&example=11%2B22"),
        browse("/overview?run=small&step=20&example=33%2B44"),
    )
    one.keyboard.press("End")
    told(one, 40)
    other.keyboard.press("ArrowLeft")
    told(other, 10)
    stands_at(one, 40)
    expect(one.locator(".token.prompt")).to_have_text(list("11+22="))
    expect(other.locator(".token.prompt")).to_have_text(list("33+44="))


def test_names_and_texts_are_shown_letter_by_letter(browse):
    page = browse("/overview?run=small&step=0")
    page.get_by_role("textbox").first.fill("<img src=x onerror=alert(1)>")
    page.get_by_role("textbox").first.press("Enter")
    alert = page.get_by_test_id("stAlert")
    expect(alert).to_contain_text("'<img src=x onerror=alert(1)>' is not a sum; type two numbers")
    assert page.locator("img[src=x]").count() == 0
    stands_at(page, 0)  # the film stays


def test_a_read_only_server_below_a_path_shows_runs_and_writes_nothing(app_folder, chromium, tmp_path):
    shutil.copytree(app_folder / "small", tmp_path / "small")
    before = sorted(tmp_path.rglob("*"))
    port = free_port()
    with served(tmp_path, port, "--read-only", below="/phases"):
        page = chromium.new_page()
        page.set_default_timeout(60 * SECOND)
        page.goto(f"http://localhost:{port}/phases/heads?run=small&step=20")
        stands_at(page, 20)
        page.keyboard.press("End")
        told(page, 40)
        page.get_by_role("link", name="Runs").click()
        page.wait_for_url("**/phases/runs?*")
        expect(page.get_by_role("button", name="Explore", exact=True)).to_be_visible()
        assert page.get_by_role("button", name="More").count() == 0
        assert page.get_by_role("link", name="Train").count() == 0
        page.goto(f"http://localhost:{port}/phases/train?run=small")
        expect(page.get_by_role("dialog")).to_contain_text("Page not found")
        assert page.get_by_role("button", name="Start training").count() == 0
        page.close()
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "log.txt") == before
