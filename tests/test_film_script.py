"""The player's modules joined into one script, the colours of the page, and a new kind of panel."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from explorer.film import palette
from explorer.film.panels import KINDS
from explorer.film.script import FOLDER, joined, style
from tests.browser import ROOT, needs_chromium

NODE = shutil.which("node")

DIAL_PY = """
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from explorer.film.panels.panel import Panel


@dataclass(frozen=True)
class Dial(Panel):
    kind: ClassVar[str] = "dial"
    has_figure: ClassVar[bool] = False

    angles: Sequence[float]  # (frame,)

    def fits(self, n_frames: int) -> bool:
        return len(self.angles) == n_frames

    def framed(self, places, steps):
        return self
"""
DIAL_JS = """
import { element } from "../dom.js";
import { Panel } from "../panel.js";

export const table = (panel, frame) => ({ columns: ["angle"], rows: [[panel.angles[frame]]] });

export default class Dial extends Panel {
  constructor(panel, player) {
    super(panel, player);
    this.needle = element("output");
    this.root.append(this.needle);
  }

  live() {
    this.needle.textContent = `${table(this.panel, this.player.index).rows[0][0]}°`;
  }
}
"""
DIAL_PAGE = """
import sys
from explorer.film.export import page
from explorer.film.film import Film
from explorer.film.panels.dial import Dial

open(sys.argv[1], "w").write(page(Film([0, 10], [Dial("dial", "Which way", [15, 80])]), "Dial", 0))
"""


def modules(folder: Path, **texts: str) -> Path:
    (folder / "panels").mkdir()
    for name, text in texts.items():
        (folder / f"{name}.js").write_text(text)
    return folder


def test_every_kind_of_panel_has_one_python_file_and_one_module():
    assert set(KINDS) == {path.stem for path in (FOLDER / "panels").glob("*.js")}
    for kind, cls in KINDS.items():
        assert (cls.kind, cls.__module__) == (kind, f"explorer.film.panels.{kind}")


@pytest.mark.skipif(NODE is None, reason="needs node: apt-get install nodejs")
def test_modules_keep_their_own_names_and_run_once_in_order(tmp_path):
    folder = modules(
        tmp_path,
        first='export const value = 1;\nconst own = "first";\nexport const name = () => own;\n',
        second='import { value } from "./first.js";\nconst own = 2;\nexport class Doubled {\n  it = own * value;\n}\n',
        entry='import {\n  name as told,\n  value,\n} from "./first.js";\nimport { Doubled } from "./second.js";\n'
        "console.log(told(), value, new Doubled().it, KINDS.dot.value, PALETTE.dark.right);\n",
    )
    (folder / "panels" / "dot.js").write_text("export default class Dot {\n  static value = -1;\n}\n")
    script = joined("entry.js", folder, kinds=["dot"])
    said = subprocess.run([NODE, "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    assert said.stdout == "first 1 2 -1 #2fc79a\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('import * as all from "./entry.js";\n', "named import"),
        ('import all from "./entry.js";\n', "named import"),
        ("export let value = 1;\n", "const, class or function"),
        ('import { other } from "./other.js";\n', "circle: entry.js → other.js → entry.js"),
    ],
)
def test_what_cannot_be_joined_is_refused(tmp_path, text, message):
    folder = modules(tmp_path, entry=text, other='import { value } from "./entry.js";\nexport const other = 1;\n')
    with pytest.raises(ValueError, match=message):
        joined("entry.js", folder, kinds=[])


def test_a_kind_without_a_module_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"kind dial; write js/panels/dial\.js"):
        joined("entry.js", modules(tmp_path, entry=""), kinds=["dial"])


@needs_chromium
def test_a_new_kind_of_panel_is_two_files_and_nothing_else(chromium, tmp_path):
    shutil.copytree(ROOT / "explorer", tmp_path / "explorer", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "explorer/film/panels/dial.py").write_text(DIAL_PY)
    (tmp_path / "explorer/film/js/panels/dial.js").write_text(DIAL_JS)
    subprocess.run([sys.executable, "-c", DIAL_PAGE, "page.html"], cwd=tmp_path, check=True)
    page = chromium.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector(".film[data-step='0']")
    assert page.locator(".panel.dial h3").inner_text() == "Which way"
    assert page.locator(".panel.dial output").inner_text() == "15°"
    page.keyboard.press("End")
    page.wait_for_selector(".film[data-step='10']")
    assert page.locator(".panel.dial output").inner_text() == "80°"
    page.close()


def test_the_page_has_the_colours_of_the_palette_in_the_theme_and_without_one():
    colours = {
        "background": palette.PAPER,
        "secondary-background": palette.WASH,
        "text": palette.STRONG,
        "border": palette.LINE,
        "primary": palette.CURSOR,
    }
    fallbacks = dict(re.findall(r"var\(--st-([a-z-]+)-color, (#\w+)\)", style()))
    assert fallbacks == {name: colour["light"] for name, colour in colours.items()}
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"]
    for mode in ("light", "dark"):
        for name, colour in colours.items():
            first, *rest = f"{name}-color".split("-")
            assert theme[mode][first + "".join(map(str.capitalize, rest))] == colour[mode]


def test_the_script_has_the_palette():
    line = next(line for line in joined("component.js").splitlines() if line.startswith("const PALETTE"))
    sent = json.loads(line.removeprefix("const PALETTE = ").removesuffix(";"))
    assert sent == json.loads(json.dumps(palette.for_player()))
    assert set(sent) == {"light", "dark"}


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    low, high = sorted([_luminance(one), _luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_small_type_and_type_on_the_accent_have_contrast(mode):
    share = int(re.search(r"--soft: color-mix\(in srgb, var\(--ink\) (\d+)%", style())[1]) / 100
    ink, paper = palette.STRONG[mode], palette.PAPER[mode]
    mixed = [share * int(ink[i : i + 2], 16) + (1 - share) * int(paper[i : i + 2], 16) for i in (1, 3, 5)]
    soft = "#" + "".join(f"{round(part):02x}" for part in mixed)
    assert min(_contrast(soft, paper), _contrast(soft, palette.WASH[mode])) >= 4.5
    assert _contrast(palette.CURSOR[mode], paper) >= 4.5
