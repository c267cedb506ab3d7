"""Frame times of the player in a real browser.

    python -m benchmarks.player

Opens the overview of the shipped run and of one with 300 snapshots, and beside them the same losses, maps and
bars behind ``st.slider`` and plotly, in headless Chromium on this machine, one after another in one run. A pointer
move counts as painted when the first frame that shows it has been handed to the compositor.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from explorer.runs import Runs, recorder
from explorer.settings import TrainingConfig
from explorer.tasks.addition import Addition

ROOT = Path(__file__).parents[1]
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
MOVES = 120
FILM = "[...document.querySelectorAll('*')].map((node) => node.shadowRoot?.querySelector('.film')).find(Boolean)"
MEASURE = (
    "() => {"
    f"const film = {FILM};"
    """
    const stage = film.querySelector('.stage.timeline');
    const waiting = [];
    window.latencies = [];
    window.paints = 0;
    stage.addEventListener('pointermove', (event) => waiting.push(event.timeStamp));
    film.addEventListener('painted', () => {
        window.paints += 1;
        const shown = waiting.splice(0);
        const channel = new MessageChannel();  // its message comes after the frame's own work
        channel.port1.onmessage = () => shown.forEach((at) => window.latencies.push(performance.now() - at));
        channel.port2.postMessage(null);
    });
}"""
)


def serve(script: str, port: int, checkpoints: Path, root: Path = ROOT) -> subprocess.Popen:
    """The app, or another script, of the project in ``root``; returns when it answers."""
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        script,
        "--server.port",
        str(port),
        "--server.headless",
        "true",
    ]
    environment = {**os.environ, "EXPLORER_CHECKPOINTS": str(checkpoints), "PYTHONPATH": str(root)}
    server = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=5):
                return server
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)


def drag(page: Page) -> list[float]:
    """Drag over the first timeline of the film that is there; milliseconds from each move to its paint, ascending."""
    page.evaluate(MEASURE)
    timeline = page.locator(".stage.timeline").first
    timeline.scroll_into_view_if_needed()
    box = timeline.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 100)
    page.mouse.down()
    for i in range(MOVES):
        page.mouse.move(box["x"] + 60 + (box["width"] - 80) * i / MOVES, box["y"] + 100)
        page.wait_for_timeout(16)
    page.mouse.up()
    page.wait_for_timeout(500)
    return sorted(page.evaluate("window.latencies"))


def player(page: Page, address: str, run: str) -> str:
    """Drag over the timeline, then play; returns a row of the table."""
    began = time.perf_counter()
    page.goto(f"{address}/overview?run={run}")
    page.wait_for_selector(".film[data-step]")
    opened = time.perf_counter() - began
    latencies = drag(page)
    within = sum(latency <= 33 for latency in latencies) / len(latencies)
    page.keyboard.press("Home")
    page.wait_for_timeout(500)
    before = page.evaluate("window.paints")
    page.keyboard.press("Space")
    page.wait_for_timeout(5000)
    paints = (page.evaluate("window.paints") - before) / 5
    page.keyboard.press("Space")
    return (
        f"{statistics.median(latencies):6.0f} {latencies[int(0.95 * len(latencies))]:6.0f} ms"
        f"  {within:6.1%} within 33 ms  {paints:5.1f} paints/s  opened in {opened:.1f} s"
    )


def slider(page: Page, address: str) -> str:
    """The same with Streamlit's own slider, by its keys; returns a row of the table."""
    page.goto(address)
    page.wait_for_selector("[data-testid=stPlotlyChart] .main-svg")
    thumb = page.get_by_role("slider")
    thumb.focus()
    latencies = []
    for _ in range(12):
        shown = page.locator("#shown").text_content()
        began = time.perf_counter()
        thumb.press("ArrowRight")
        page.wait_for_function("(before) => document.querySelector('#shown').textContent !== before", arg=shown)
        latencies.append(1000 * (time.perf_counter() - began))
    latencies.sort()
    median = statistics.median(latencies)
    return f"{median:6.0f} {latencies[-1]:6.0f} ms  {1000 / median:25.1f} paints/s"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        checkpoints = Path(folder)
        shutil.copytree(ROOT / "checkpoints" / "addition", checkpoints / "addition")
        task = Addition()
        training = TrainingConfig(steps=299, batch_size=16, snapshot_every=1, snapshot_dtype="float16")
        model = task.model_config(**task.presets["quick"].model)
        recorder.train(recorder.create(Runs(checkpoints), "three-hundred", task, model, training))
        servers = [
            serve("streamlit_app.py", 8571, checkpoints),
            serve("benchmarks/slider_app.py", 8572, checkpoints),
        ]
        chromium = shutil.which("chromium")
        try:
            browser = playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.set_default_timeout(120_000)
            print("from a change to its paint:  median, 95th percentile")
            for run in ("addition", "three-hundred"):
                n = len(Runs(checkpoints).open(run).steps())
                print(f"player, {n:>3} snapshots           {player(page, 'http://localhost:8571', run)}", flush=True)
            print(f"st.slider and plotly            {slider(page, 'http://localhost:8572')}")
            browser.close()
        finally:
            for server in servers:
                server.terminate()


if __name__ == "__main__":
    main()
