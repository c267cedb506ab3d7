"""Takes the README's pictures: a scene each, in headless Chromium, light, 1,400 pixels wide.

python -m benchmarks.pictures
"""

import shutil

from playwright.sync_api import sync_playwright

from benchmarks.player import ROOT, SWITCHES, serve
from benchmarks.start import PAINTED

PORT = 8576
PICTURES = {  # file -> scene, and height in pixels
    "overview": ("overview?run=addition&step=862", 960),
    "induction": ("heads?run=induction&step=1004", 1230),
    "grokking": ("losses?run=modular-addition&step=5901", 1000),
    "fourier": ("fourier?run=modular-addition&step=5901&show=progress", 960),
    "cut": ("cut?run=addition&step=3000", 1080),
}


def main() -> None:
    server = serve("streamlit_app.py", PORT, ROOT / "checkpoints")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=SWITCHES)
            for name, (scene, height) in PICTURES.items():
                page = browser.new_page(viewport={"width": 1400, "height": height}, color_scheme="light")
                page.goto(f"http://localhost:{PORT}/{scene}")
                page.wait_for_function(PAINTED)
                page.wait_for_timeout(1000)  # until what comes below the film is there as well
                page.screenshot(path=ROOT / "docs" / f"{name}.png")
                page.close()
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
