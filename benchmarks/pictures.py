"""Takes the README's pictures in headless Chromium, light: scenes, a beat of each story, and the overview as it moves.

python -m benchmarks.pictures [NAME ...]
"""

import io
import shutil
import sys

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.player import FILM, ROOT, SWITCHES, serve
from benchmarks.start import PAINTED

PORT = 8576
SCENES = {  # file -> address, and height in pixels
    "overview": ("overview?run=addition&step=862", 1160),
    "induction": ("heads?run=induction&step=1004", 1230),
    "grokking": ("losses?run=modular-addition&step=5901", 1000),
    "fourier": ("fourier?run=modular-addition&step=5901&show=progress", 960),
    "cut": ("cut?run=addition&step=3000", 1080),
}
STORIES = {"story-copy": ("copy", 2), "story-understand": ("understand", 5), "story-digits": ("digits", 2)}
STORIES |= {"story-facts": ("facts", 7)}  # file -> story and beat
MOVING = ("overview?run=addition&step=0", 860)
FRAMES, LASTS, WIDTH, QUALITY = 44, 90, 1000, 70  # of the moving picture: frames, ms of each, pixels, of 100
TOLD = """() => {
    const deck = [...document.querySelectorAll('*')].map((n) => n.shadowRoot?.querySelector('.deck')).find(Boolean);
    return deck?.dataset.beat && !deck.classList.contains('waiting')
        && !document.querySelector('[data-testid=stSpinner]');
}"""


def opened(browser: Browser, address: str, height: int, there: str = PAINTED) -> Page:
    """A page of the app, when what it shows is there."""
    page = browser.new_page(viewport={"width": 1400, "height": height}, color_scheme="light")
    page.goto(f"http://localhost:{PORT}/{address}")
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


def main() -> None:
    server = serve("streamlit_app.py", PORT, ROOT / "checkpoints")
    wanted = set(sys.argv[1:]) or {*SCENES, *STORIES, "moving"}
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
