"""From choosing a panel to seeing it, and how smoothly it scrubs, in a real browser.

    python -m benchmarks.panels [RUN ...]

Goes through the pages of the app, and on each through everything that can be chosen to be shown, in headless Chromium.
A panel counts as there when the film that has it has been painted. Then its timeline is dragged on, as in
`benchmarks.player`. Without names, the run with the most weights and the one of most tokens.
"""

import shutil
import statistics
import sys
import time

from playwright.sync_api import Page, sync_playwright

from benchmarks.player import ROOT, SWITCHES, drag, serve
from benchmarks.start import FILM, IS_BUSY
from explorer.runs import Runs
from explorer.tasks.task import Task

PORT = 8574
RUNS = ("addition-finite", "induction")
PAGES = ("Losses", "Answers", "Compare", "Heads", "Activations", "Components", "Circuits", "Fourier", "Weights")
PAGES += ("Cut it", "Overview")
# What has been painted since the mark was set.
MARK = f"() => {{ const film = {FILM}; if (film) film.dataset.left = 'yes'; window.painted = 0; }}"
COUNT = f"""() => {{
    const film = {FILM};
    if (film && film !== window.counted) film.addEventListener('painted', () => (window.painted += 1));
    if (film) window.counted = film;
}}"""
FRESH = f"() => {{ const film = {FILM}; return film?.dataset.step && !film.dataset.left && !{IS_BUSY}; }}"
ASKS = "document.querySelector('[data-testid=stMain] [data-testid=stAlertContentInfo]')"  # for more, before a film
AGAIN = f"""() => {{
    const film = {FILM};
    const isPainted = window.painted > 0 || (film !== window.counted && film?.dataset.step);
    return (isPainted || {ASKS}) && !{IS_BUSY};
}}"""
# What is chosen there is which example, not what is shown of it.
EXAMPLES = ".st-key-choice-example-named, .st-key-interventions-second-named"
GROUPS = f"[data-testid=stMain] :not({EXAMPLES}) > [data-testid=stButtonGroup]"


def open_page(page: Page, name: str) -> float:
    """Seconds from the click on a page to its film."""
    page.evaluate(MARK)
    began = time.perf_counter()
    page.get_by_test_id("stPageLink-NavLink").filter(has_text=name).first.click()
    page.wait_for_function(FRESH)
    return time.perf_counter() - began


def choose(page: Page, group: int, option: int) -> tuple[str, float] | None:
    """Seconds from a click on one of a group of choices to its film; None where it is chosen already."""
    button = page.locator(GROUPS).nth(group).locator("[role=radio]").nth(option)
    if button.get_attribute("aria-checked") == "true":
        return None
    label = button.inner_text()
    page.evaluate(COUNT)
    page.evaluate(MARK)
    began = time.perf_counter()
    button.click()
    page.wait_for_function(AGAIN)
    return label, time.perf_counter() - began


def scrub(page: Page) -> str:
    """How long changes take to their paint."""
    if page.evaluate(ASKS):
        return "asks for more"
    page.wait_for_timeout(500)  # until what comes below the film is there as well
    latencies = drag(page)
    return f"{statistics.median(latencies):4.0f} / {latencies[int(0.95 * len(latencies))]:4.0f} ms"


def main() -> None:
    names = sys.argv[1:] or RUNS
    server = serve("streamlit_app.py", PORT, ROOT / "checkpoints")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=SWITCHES)
            for name in names:
                page = browser.new_page(viewport={"width": 1400, "height": 900})
                page.set_default_timeout(60_000)
                page.goto(f"http://localhost:{PORT}/overview?run={name}")
                page.wait_for_function(FRESH)
                print(f"{name:<44} on screen   a change to its paint, median / 95 %")
                measure(page, Runs(ROOT / "checkpoints").open(name).info().task)
                page.close()
            browser.close()
    finally:
        server.terminate()
        server.wait()


def measure(page: Page, task: Task) -> None:
    for name in PAGES:
        if name == "Fourier" and task.cycle is None:
            continue  # its page says that it has none
        print(f"  {name:<42} {open_page(page, name):6.2f} s    {scrub(page)}", flush=True)
        choose_all(page)


def choose_all(page: Page, group: int = 0) -> None:
    """Choose everything; what there is to choose may depend on what was chosen before it."""
    if group >= page.locator(GROUPS).count():
        return
    for option in range(page.locator(GROUPS).nth(group).locator("[role=radio]").count()):
        chosen = choose(page, group, option)
        if chosen:
            print(f"    {'  ' * group + chosen[0]:<40} {chosen[1]:6.2f} s    {scrub(page)}", flush=True)
        choose_all(page, group + 1)


if __name__ == "__main__":
    main()
