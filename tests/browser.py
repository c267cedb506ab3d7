"""Helpers and fixtures of the tests that drive the real app in a real browser."""

import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from explorer.film.export import page as html_page
from explorer.film.film import Film
from explorer.film.panels.heatmaps import Heatmaps
from explorer.runs import Runs, recorder
from explorer.tasks.induction import Induction
from explorer.tasks.skip_trigram import SkipTrigram
from tests.conftest import FINITE, MODEL, SHIPPED, TASK, TRAINING

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SECOND = 1000
# Pages without a film, or not always with one.
WITHOUT_FILM = ("/", "/runs", "/train", "/words", "/grafts", "/leads", "/complexity", "/leads-over-seeds")
PLAYER = "document.querySelector('.film').player"  # of an exported page
FILM = "[...document.querySelectorAll('*')].map((node) => node.shadowRoot?.querySelector('.film')).find(Boolean)"

expect.set_options(timeout=60 * SECOND)  # as long as everything else waits, on a machine that does much beside

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@contextmanager
def served(folder: Path, port: int, *options: str, below: str = "") -> Iterator[subprocess.Popen]:
    """The app on the runs of a folder; its log must not hold a traceback. ``options`` are for the app itself, ``below``
    is the path at which it is served."""
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", "--server.port", str(port)]
    command += ["--server.headless", "true", "--server.baseUrlPath", below, "--", *options]
    log = folder / "log.txt"
    environment = {
        "EXPLORER_CHECKPOINTS": str(folder),
        "OMP_NUM_THREADS": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
    }
    with log.open("w") as output:
        server = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        while True:
            assert server.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"http://localhost:{port}{below}/_stcore/health", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
        yield server
    finally:
        server.terminate()
        server.wait()
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="session")
def app_folder(root, tmp_path_factory) -> Path:
    """Small runs to look at, and the shipped run of a story. Not to be changed."""
    folder = tmp_path_factory.mktemp("browser")
    shutil.copytree(SHIPPED / "skip-trigram", folder / "skip-trigram")
    shutil.copytree(root / "small", folder / "small")
    recorder.train(recorder.create(Runs(folder), "finite", TASK, MODEL, FINITE))
    learnt = replace(TRAINING, steps=400, batch_size=64, lr=1e-2, snapshot_every=100)
    recorder.train(recorder.create(Runs(folder), "learnt", TASK, MODEL, learnt))
    copies = Induction(stretch=8, interval=12)
    model = copies.model_config(d_model=16, n_heads=2, d_head=8, n_layers=2, attn_only=True)
    recorder.train(recorder.create(Runs(folder), "copies", copies, model, TRAINING))
    trigrams = SkipTrigram(n_triggers=4, n_letters=16)
    model = trigrams.model_config(d_model=16, n_heads=2, d_head=8, n_layers=1, attn_only=True)
    recorder.train(recorder.create(Runs(folder), "trigrams", trigrams, model, TRAINING))
    return folder


@pytest.fixture(scope="session")
def app(app_folder) -> Iterator[str]:
    """The app on small runs; yields its address."""
    port = free_port()
    with served(app_folder, port):
        yield f"http://localhost:{port}"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def browse(app, chromium):
    """Opens a place of the app in a browser session of its own: ``browse("/heads?run=small")``."""
    contexts = []
    errors: list[str] = []

    def browse(place: str, **options) -> Page:
        context = chromium.new_context(viewport={"width": 1400, "height": 1000}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60 * SECOND)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(app + place)
        has_film = place.partition("?")[0] not in WITHOUT_FILM
        page.wait_for_selector(".film[data-step]" if has_film else "[data-testid=stMain] h1")
        return page

    yield browse
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def play(chromium: Browser, tmp_path: Path) -> Iterator:
    """Opens a film in an exported page without a network: ``play(film)``."""
    contexts, errors, asked = [], [], []

    def play(film: Film, start: int = 0, switches: tuple = (), **options) -> Page:
        path = tmp_path / f"{len(contexts)}.html"
        path.write_text(html_page(film, "A <film> & more", start, switches), encoding="utf-8")
        context = chromium.new_context(viewport={"width": 1400, "height": 1000}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector(".film[data-step]")
        return page

    yield play
    for context in contexts:
        context.close()
    assert errors == []
    assert all(url.startswith("file:") and url.endswith(".html") for url in asked)


def maps_of(film: Film) -> Heatmaps:
    return next(panel for panel in film.panels if isinstance(panel, Heatmaps))


def stands_at(page: Page, step: int) -> None:
    expect(page.locator(".film")).to_have_attribute("data-step", str(step))


def seek(page: Page, frame: int) -> None:
    page.evaluate(f"{PLAYER}.seek({frame})")
    page.wait_for_function(f"{PLAYER}.painted === {frame}")


def told(page: Page, step: int) -> None:
    """The URL follows the player, so Python knows."""
    page.wait_for_function(f"new URLSearchParams(location.search).get('step') === '{step}'")


def place(page: Page) -> str:
    """Where a page is, as `browse` takes it."""
    return page.evaluate("location.pathname + location.search")
