"""From the command to the first film, and from page to page, in a real browser.

    python -m benchmarks.start

Starts the app anew for each round, opens it in headless Chromium, and goes through its pages; and once more anew for
the story with which it opens. A page counts as there when its film has been painted; one without a film, when its
buttons are there and nothing is pending.
"""

import os
import shutil
import statistics
import time

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.player import ROOT, SWITCHES, serve

ROUNDS = 3
PORT = 8573
FILM_PAGES = {"Losses": "/losses", "Heads": "/heads", "Activations": "/activations"}
FILM_PAGES |= {"Answers": "/answers", "Overview": "/overview"}
OTHER_PAGES = {"Train": "/train", "Runs": "/runs"}
FILM = "[...document.querySelectorAll('*')].map((node) => node.shadowRoot?.querySelector('.film')).find(Boolean)"
BUTTONS = "[...document.querySelectorAll('[data-testid=stMain] [data-testid=stButton]')]"
WAITING = "'[data-testid=stSkeleton], [data-testid=stSpinner], [data-testid=stMain] [data-stale=true]'"
IS_BUSY = f"document.querySelector({WAITING})"
PAINTED = f"() => {{ const film = {FILM}; return film?.dataset.step && !film.dataset.left && !{IS_BUSY}; }}"
SETTLED = f"() => {BUTTONS}.length && {BUTTONS}.every((button) => !button.dataset.left) && !{IS_BUSY}"
TOLD = """() => {
    const deck = [...document.querySelectorAll('*')].map((n) => n.shadowRoot?.querySelector('.deck')).find(Boolean);
    return deck?.dataset.beat && !deck.classList.contains('waiting')
        && !document.querySelector('[data-testid=stSpinner]');
}"""
LEAVE = f"() => [{FILM}, ...{BUTTONS}].forEach((node) => {{ if (node) node.dataset.left = 'yes'; }})"


def go_to(page: Page, name: str, path: str, there: str) -> float:
    """Seconds from a click to the page."""
    page.evaluate(LEAVE)
    began = time.perf_counter()
    link = page.get_by_role("link", name=name)
    if not link.count():  # the views are linked from Explore only
        page.get_by_role("link", name="Explore").click()
    link.click()
    page.wait_for_function("(path) => location.pathname === path", arg=path)
    page.wait_for_function(there)
    return time.perf_counter() - began


def opening(browser: Browser) -> tuple[float, float]:
    """Seconds from the command to the first film of the story with which the app opens, and those of a processor that
    the server takes until then."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    before, began = os.times(), time.perf_counter()
    server = serve("streamlit_app.py", PORT, ROOT / "checkpoints")
    try:
        page.goto(f"http://localhost:{PORT}")
        page.wait_for_function(TOLD)
        seconds = time.perf_counter() - began
    finally:
        server.terminate()
        server.wait()
        page.close()
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, used


def main() -> None:
    times: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=SWITCHES)
        for _ in range(ROUNDS):
            seconds, used = opening(browser)
            times.setdefault("command to the first story's film", []).append(seconds)
            times.setdefault("of it, processor of the server", []).append(used)
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.set_default_timeout(30_000)
            began = time.perf_counter()
            server = serve("streamlit_app.py", PORT, ROOT / "checkpoints")
            try:
                listening = time.perf_counter()
                page.goto(f"http://localhost:{PORT}/overview?run=addition")
                page.wait_for_function(PAINTED)
                painted = time.perf_counter()
                times.setdefault("command to listening", []).append(listening - began)
                times.setdefault("first visit to first film", []).append(painted - listening)
                page.reload()
                again = time.perf_counter()
                page.wait_for_function(PAINTED)
                times.setdefault("reload to film", []).append(time.perf_counter() - again)
                for turn in ("first time", "again"):
                    for pages, there in ((FILM_PAGES, PAINTED), (OTHER_PAGES, SETTLED)):
                        for name, path in pages.items():
                            times.setdefault(f"to {name}, {turn}", []).append(go_to(page, name, path, there))
            finally:
                server.terminate()
                server.wait()
                page.close()
        browser.close()
    for what, measured in times.items():
        print(f"{what:<34} {statistics.median(measured):6.2f} s")


if __name__ == "__main__":
    main()
