"""The last commit of the app against an earlier one: first film, change of page, scrubbing.

    python -m benchmarks.against REVISION

Checks both out in temporary folders, so that neither has more files beside it that Streamlit watches, and measures
them in turns, in headless Chromium on this machine: the time from the command to the first painted film, from a click
to the film of another page, and from a move of the pointer on the losses to its paint. Prints medians of both, and
their ratio.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.player import ROOT, SWITCHES, drag, serve
from benchmarks.start import FILM_PAGES, PAINTED, go_to

ROUNDS = 3
PORT = 8575
RUN = "induction"
PAGES = FILM_PAGES | {"Compare": "/compare", "Cut it": "/cut"}


def measure(browser: Browser, root: Path) -> dict[str, float]:
    """One round: seconds, and for scrubbing milliseconds, by what was measured."""
    found: dict[str, float] = {}
    began = time.perf_counter()
    server = serve("streamlit_app.py", PORT, ROOT / "checkpoints", root)
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(60_000)
    try:
        page.goto(f"http://localhost:{PORT}/overview?run={RUN}")
        page.wait_for_function(PAINTED)
        found["command to first film, s"] = time.perf_counter() - began
        for turn in ("first time", "again"):
            for name, path in PAGES.items():
                found[f"to {name}, {turn}, s"] = go_to(page, name, path, PAINTED)
                if turn == "again":
                    page.wait_for_timeout(500)  # until what comes below the film is there as well
                    latencies = drag(page)
                    found[f"scrub {name}, median, ms"] = statistics.median(latencies)
                    found[f"scrub {name}, 95 %, ms"] = latencies[int(0.95 * len(latencies))]
    finally:
        page.close()
        server.terminate()
        server.wait()
    return found


def main() -> None:
    (revision,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        roots = [Path(folder) / name for name in ("before", "after")]
        for root, commit in zip(roots, (revision, "HEAD"), strict=True):
            subprocess.run(["git", "worktree", "add", "--quiet", "--detach", root, commit], cwd=ROOT, check=True)
        try:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=SWITCHES)
            rounds = [tuple(measure(browser, root) for root in roots) for _ in range(ROUNDS)]
            browser.close()
        finally:
            for root in roots:
                subprocess.run(["git", "worktree", "remove", "--force", root], cwd=ROOT, check=True)
    print(f"{'':<36} {revision[:10]:>10} {'HEAD':>8}   ratio")
    for what in rounds[0][0]:
        old, new = (statistics.median(both[i][what] for both in rounds) for i in (0, 1))
        print(f"{what:<36} {old:10.2f} {new:8.2f} {new / old:7.2f}")


if __name__ == "__main__":
    main()
