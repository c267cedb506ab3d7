"""The places of the app and exported files in Firefox."""

import json
import os
import shutil
import subprocess

import pytest

from explorer.film.export import page as html_page
from explorer.views import overview
from tests.browser import ROOT
from tests.short_story import exported

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
NODE = shutil.which("node")
PUPPETEER = ROOT / "node_modules" / "puppeteer-core"
PLACES = {"/": True, "/overview?run=small&step=0": True, "/train": False, "/runs": False, "/words": False}

pytestmark = [
    pytest.mark.skipif(FIREFOX is None, reason="needs Firefox: apt-get install firefox-esr"),
    pytest.mark.skipif(NODE is None, reason="needs node: apt-get install nodejs"),
    pytest.mark.skipif(not PUPPETEER.exists(), reason="needs puppeteer-core: npm ci"),
]


def test_every_place_and_exported_files_work_in_firefox(app, subject, tmp_path):
    scene = tmp_path / "scene.html"
    scene.write_text(html_page(overview.film(subject, "48+76"), "A scene", 0), encoding="utf-8")
    files = [scene, exported(tmp_path, subject)]
    places = [{"url": app + place, "film": has_film} for place, has_film in PLACES.items()]
    places += [{"url": file.as_uri(), "film": True} for file in files]
    done = subprocess.run(
        [str(NODE), "tests/js/firefox.js", str(FIREFOX), json.dumps(places)],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path)},  # Firefox writes there
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one["url"] for one in found] == [place["url"] for place in places]
    assert {one["url"]: one["errors"] for one in found if one["errors"]} == {}
    assert [one["url"] for one, place in zip(found, places, strict=True) if place["film"] and one["paints"] < 10] == []
