"""Training from the page, in a real browser."""

from playwright.sync_api import expect

from explorer.runs import Run, Runs, jobs
from tests.browser import FILM, SECOND, free_port, needs_chromium, served, stands_at, told
from tests.conftest import until

pytestmark = needs_chromium
SEEDS = "[...document.querySelectorAll('input[aria-label=Seed]')].map((input) => input.value).join()"


def test_training_is_watched_scrubbed_and_survives_the_app(chromium, tmp_path):
    """Started from the page, followed to the newest snapshot, scrubbed, reloaded, and still there in a new app."""
    page = chromium.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    page.set_default_timeout(60 * SECOND)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    port = free_port()
    with served(tmp_path, port) as server:
        page.goto(f"http://localhost:{port}/train")
        page.get_by_label("Task").click()
        page.get_by_role("option", name="skip-trigram").click()
        page.get_by_text("Advanced").click()
        page.wait_for_function(f"{SEEDS} === '6798'")  # those of the task before are gone
        for name, value in (("Steps", "1000000"), ("batch_size", "8"), ("snapshot_every", "100")):
            page.get_by_label(name, exact=True).fill(value)
            page.get_by_label(name, exact=True).press("Enter")
        expect(page.get_by_text("1,000,000 steps")).to_be_visible()
        page.get_by_role("button", name="Start training").click()
        page.wait_for_selector(".film[data-step]")
        run = Run(tmp_path / "skip-trigram")
        assert run.info().training.snapshot_every == 100

        page.evaluate(
            "() => { const look = () => { window.vanished ||= !" + FILM + "; requestAnimationFrame(look); }; look(); }"
        )
        until(lambda: len(run.steps()) > 3)
        page.wait_for_function(f"() => {{ const film = {FILM}; return film.player.film.steps.length > 3; }}")
        page.locator(".film").focus()
        page.keyboard.press("End")
        stood = int(page.locator(".film").get_attribute("data-step"))
        page.wait_for_function(f"() => {{ const film = {FILM}; return Number(film.dataset.step) > {stood}; }}")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        stands_at(page, 100)
        grown = page.evaluate(f"() => {{ const film = {FILM}; return film.player.film.steps.length; }}")
        page.wait_for_function(f"() => {{ const film = {FILM}; return film.player.film.steps.length > {grown}; }}")
        stands_at(page, 100)
        told(page, 100)
        assert page.evaluate("window.vanished") is False
        page.reload()
        page.wait_for_selector(".film[data-step]")
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        server.kill()
        server.wait()
    assert run.is_training()
    with served(tmp_path, port):
        page.goto(f"http://localhost:{port}/train?run=skip-trigram")
        page.get_by_role("button", name="Stop").click()
        until(lambda: run.info().status == "stopped")
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert not jobs.in_training(Runs(tmp_path))
    assert errors == []
    page.context.close()


def test_address_player_and_session_agree_when_a_run_has_ended(chromium, tmp_path):
    """The run is followed from its first snapshot to its last, where the player stays."""
    page = chromium.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    page.set_default_timeout(60 * SECOND)
    port = free_port()
    with served(tmp_path, port):
        page.goto(f"http://localhost:{port}/train")
        page.get_by_label("Task").click()
        page.get_by_role("option", name="skip-trigram").click()
        page.wait_for_function(f"{SEEDS} === '6798'")
        page.get_by_label("Steps", exact=True).fill("300")
        page.get_by_label("Steps", exact=True).press("Enter")
        expect(page.get_by_text("300 steps")).to_be_visible()
        page.get_by_role("button", name="Start training").click()
        page.wait_for_selector(".film[data-step]")
        expect(page.get_by_text("Train another run")).to_be_visible()  # the form is folded away
        run = Run(tmp_path / "skip-trigram")
        until(lambda: run.info().status == "done")
        page.wait_for_function(f"() => {FILM}?.player?.film?.steps.length === {len(run.steps())}")
        step = run.steps()[-1]
        stands_at(page, step)
        told(page, step)
        page.get_by_role("link", name="Explore", exact=True).click()
        page.wait_for_url("**/overview?*")
        stands_at(page, step)
        assert f"step={step}&" in page.url
    page.context.close()
