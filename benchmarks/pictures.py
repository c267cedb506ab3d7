"""Takes the README's pictures in headless Chromium, light: scenes, a beat of each story, the overview as it moves, and
a run that is being trained, in a temporary folder.

python -m benchmarks.pictures [NAME ...]
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.player import FILM, ROOT, SWITCHES, serve
from benchmarks.start import PAINTED, SETTLED, TOLD

PORT = 8576
SCENES = {  # file -> address, and height in pixels
    "overview": ("overview?run=addition&step=862", 1160),
    "induction": ("heads?run=induction&step=1004", 1560),
    "grokking": ("losses?run=modular-addition&step=5901", 1040),
    "fourier": ("fourier?run=modular-addition&step=5901&show=progress", 1180),
    "phase-diagram": ("phase-diagram?run=modular-addition-plane&step=4000", 1000),
    "cut": ("cut?run=addition&step=3000", 1080),
}
STORIES = {"story-copy": ("copy", 2), "story-understand": ("understand", 5), "story-digits": ("digits", 2)}
STORIES |= {
    "story-facts": ("facts", 7),
    "story-order": ("order", 4),
    "story-where": ("where", 2),
    "story-before": ("before", 4),
    "story-before-copying": ("before-copying", 2),
    "story-first": ("first", 5),
}  # story and beat
MOVING = ("overview?run=addition&step=0", 860)
FRAMES, LASTS, WIDTH, QUALITY = 44, 90, 1000, 70  # of the moving picture: frames, ms of each, pixels, of 100
TRAIN_PORT, TRAIN_HEIGHT = 8577, 930
TRAINED, SCRUBBED = 1400, 400  # steps that are trained when the picture is taken, and the step it shows


def opened(browser: Browser, address: str, height: int, there: str = PAINTED, port: int = PORT) -> Page:
    """A page of the app, when what it shows is there."""
    page = browser.new_page(viewport={"width": 1400, "height": height}, color_scheme="light")
    page.goto(f"http://localhost:{port}/{address}")
    page.wait_for_function(there, timeout=300_000)
    page.wait_for_timeout(2000)  # until what comes below the film is there as well, and a story's film has glided
    return page


def moving(page: Page) -> list[Image.Image]:
    """The page at snapshots from the first to the last."""
    n = page.evaluate(f"{FILM}.player.film.steps.length")
    frames = []
    for i in range(FRAMES):
        page.evaluate(f"{FILM}.player.seek({round(i * (n - 1) / (FRAMES - 1))})")
        page.wait_for_function(f"() => {FILM}.player.painted === {FILM}.player.index")
        shot = Image.open(io.BytesIO(page.screenshot()))
        height = round(shot.height * WIDTH / shot.width)
        frames.append(shot.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS))
    return frames


def training(browser: Browser) -> None:
    """The page Train while a run is trained, scrubbed back to an early step; the run is removed."""
    with tempfile.TemporaryDirectory() as folder:
        server = serve("streamlit_app.py", TRAIN_PORT, Path(folder))
        try:
            page = opened(browser, "train", TRAIN_HEIGHT, SETTLED, TRAIN_PORT)
            page.get_by_role("button", name="Start training").click()
            page.wait_for_function(f"(step) => {FILM}?.player?.film.steps.at(-1) >= step", arg=TRAINED, timeout=300_000)
            page.evaluate(f"{FILM}.player.seek({FILM}.player.film.steps.findIndex((step) => step >= {SCRUBBED}))")
            page.wait_for_timeout(2000)  # until the page knows of it
            page.screenshot(path=ROOT / "docs" / "train.png")
            page.get_by_role("button", name="Stop").click()
            page.get_by_role("button", name="Resume").wait_for(timeout=60_000)
        finally:
            server.terminate()
            server.wait()


def main() -> None:
    server = serve("streamlit_app.py", PORT, ROOT / "checkpoints")
    wanted = set(sys.argv[1:]) or {*SCENES, *STORIES, "moving", "train"}
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=SWITCHES)
            for name, (scene, height) in SCENES.items():
                if name in wanted:
                    opened(browser, scene, height).screenshot(path=ROOT / "docs" / f"{name}.png")
            for name, (story, beat) in STORIES.items():
                if name in wanted:
                    address = f"?beat={beat}&story={story}"
                    opened(browser, address, 900, TOLD).screenshot(path=ROOT / "docs" / f"{name}.png")
            if "train" in wanted:
                training(browser)
            if "moving" in wanted:
                first, *others = moving(opened(browser, *MOVING))
                durations = [LASTS] * len(others) + [2000]
                first.save(
                    ROOT / "docs" / "moving.webp",
                    save_all=True,
                    append_images=others,
                    duration=durations,
                    loop=0,
                    quality=QUALITY,
                )
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
