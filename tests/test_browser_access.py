"""Every place, checked by axe-core: people with other eyes, and with a keyboard."""

from pathlib import Path

import pytest

from tests.browser import needs_chromium

AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"
PLACES = ("overview", "losses", "heads", "cut", "compare", "runs", "train", "words")

pytestmark = [needs_chromium, pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: npm ci")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", PLACES)
def test_axe_finds_no_serious_violation(browse, place, scheme):
    page = browse(f"/{place}?run=small&step=20", color_scheme=scheme)
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton], [data-testid=stSpinner]')")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    serious = [
        (one["id"], node["html"], node["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert serious == []
