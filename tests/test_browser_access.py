"""Every place, checked by axe-core: people with other eyes, and with a keyboard."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import needs_chromium

AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"
PLACES = ("overview", "losses", "heads", "cut", "compare", "runs", "train", "words")
STORIES = "/?story=facts&beat=3"  # a beat with a veil

pytestmark = [needs_chromium, pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: npm ci")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", [STORIES, *(f"/{place}?run=small&step=20" for place in PLACES)])
def test_axe_finds_no_serious_violation(browse, place, scheme):
    page = browse(place, color_scheme=scheme)
    if place == STORIES:
        page.wait_for_selector(".deck[data-beat='3'] .film[data-step='97']")
        expect(page.get_by_role("button", name="Download this story")).to_be_visible()
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
