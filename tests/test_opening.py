"""Scenes opened against runs: on the command line, as a file, and with a view that somebody has just written."""

import base64
import re
import sys

import pytest

from explorer.cli.main import main
from explorer.errors import UserError
from explorer.film.panels.curves import Curves
from explorer.film.panels.heatmaps import Heatmaps
from explorer.options import resolve
from explorer.runs import Runs
from explorer.views import all_views, find_views, get_view
from explorer.views.opening import open_scene
from explorer.views.subject import Subject
from tests.conftest import SHIPPED
from tests.films import unpacked

NEW_VIEW = '''
"""How large the embedding of each token is."""

from dataclasses import dataclass

from explorer.film.film import Film
from explorer.options import switch
from explorer.views import panels
from explorer.views.view import View


@dataclass(frozen=True)
class Options:
    squared: bool = switch("Squared")


class Embeddings(View[Options]):
    name, title, icon, order = "embeddings", "Embeddings", "token", 9
    options_type = Options

    def film(self, subject, example, options, second=None):
        norms = subject.ensemble.weights["embed.W_E"].norm(dim=-1) ** (2 if options.squared else 1)
        curves = dict(zip(subject.task.tokens, norms.unbind(1), strict=True))
        return Film(subject.steps, [panels.over_snapshots(subject, "norms", "Norms", curves, unit="norm")])
'''


@pytest.fixture
def new_views(tmp_path, monkeypatch):
    """The folder of views with one file more, as a package of its own."""
    package = tmp_path / "views_of_mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "embeddings.py").write_text(NEW_VIEW)
    monkeypatch.syspath_prepend(tmp_path)
    yield find_views("views_of_mine", [str(package)])
    for name in [name for name in sys.modules if name.startswith("views_of_mine")]:
        del sys.modules[name]


def test_a_new_view_is_one_file(new_views, subject):
    assert list(new_views) == ["embeddings"]
    view = new_views["embeddings"]
    options, problems = resolve(view.options_type, subject, subject.first_example, {"squared": "on"})
    assert problems == []
    plain, _ = resolve(view.options_type, subject, subject.first_example, {})
    squared, norms = (
        view.film(subject, subject.first_example, chosen).panels[0].lines[3].values for chosen in (options, plain)
    )
    assert squared == pytest.approx(norms**2)


def test_every_file_of_a_view_is_found_in_the_order_of_the_navigation():
    assert list(all_views()) == [
        *("overview", "losses", "answers", "heads", "components", "activations"),
        *("circuits", "fourier", "weights", "cut", "compare", "grafts", "leads", "between", "complexity"),
        *("phase-diagram", "seeds", "leads-over-seeds"),
    ]
    with pytest.raises(UserError, match="There is no view 'nope'; there are overview, "):
        get_view("nope")


# --- The command line ---


def printed(capsys, *arguments: str) -> tuple[int, str, str]:
    status = main([*arguments, "--checkpoints", str(SHIPPED)])
    out, err = capsys.readouterr()
    return status, out.strip(), err.strip()


def test_a_scene_is_printed_in_full_and_in_one_form(capsys):
    status, full, err = printed(capsys, "scene", "heads?run=addition&show=heads")
    assert (status, err) == (0, "")
    assert full == "heads?run=addition&step=43&example=12345%2B67890&show=heads"
    for line in (full, f"http://localhost:8501/{full}", f" {full}\n"):
        assert printed(capsys, "scene", line)[1] == full
    switched = full.replace("&show", "&player=losses.smooth:off+losses.log&show")
    assert printed(capsys, "scene", switched)[1] == f"{full}&player=losses.log+losses.smooth:off"
    # The first page has no name in the browser.
    assert printed(capsys, "scene", "http://localhost:8501/?run=addition&step=0")[1].startswith(
        "overview?run=addition&step=0"
    )
    # Options with their default, and options without effect, are left out.
    assert printed(capsys, "scene", f"{full}&on=repeated&of=scores")[1] == full


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("heads?run=addition&show=all", ["show is 'all'; it can be one, mean, heads."]),
        ("nope?run=addition", ["There is no view 'nope'; there are overview,"]),
        ("heads?run=nope", ["There is no run 'nope'; there are addition,"]),
        ("heads?run=../addition", ["There is no run '../addition'"]),
        ("overview?run=addition&step=102", ["addition has no snapshot at step 102; the nearest is at step 101."]),
        ("overview?run=addition&example=what", ["'what' is not a sum"]),
        ("overview?run=addition&run=induction", ["'run' is given 2 times"]),
        ("weights?run=addition&layer=1&step=x", ["step is 'x'", "There is no option 'layer'; this view has none."]),
        ("cut?run=addition&off=L0H0,L5H0", ["There is no L5H0"]),
        ("heads?example=" + "1" * 70_000, ["The link has 70,014 characters; at most 65,536 are read."]),
        ("compare?run=addition&beside=addition", ["beside is 'addition'; it can be addition-finite, induction"]),
    ],
)
def test_what_does_not_fit_in_a_scene_gets_a_sentence_each_and_status_2(capsys, line, said):
    status, out, err = printed(capsys, "scene", line)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == len(said)
    assert all(some in sentence for some, sentence in zip(said, err.splitlines(), strict=True))


def test_a_scene_is_written_as_one_file(capsys, tmp_path):
    file = tmp_path / "film.html"
    line = "heads?run=skip-trigram&step=149&player=losses.log"
    status, out, err = printed(capsys, "film", line, "-o", str(file))
    assert (status, err) == (0, "")
    assert out == f"{file}: {file.stat().st_size / 2**20:.1f} MiB"
    html = file.read_text(encoding="utf-8")
    assert "<title>Heads: skip-trigram</title>" in html
    assert 'src="' not in html
    (encoded,) = re.findall(r'id="film">([^<]+)<', html)
    headers = unpacked(base64.b64decode(encoded))
    assert (headers["start"], headers["switches"]) == (149, [["losses", "log", True]])
    assert [panel["id"] for panel in headers["panels"]] == ["losses", "patterns"]


@pytest.mark.parametrize(
    ("line", "file", "said"),
    [
        ("fourier?run=induction", "film.html", "not numbers modulo n"),
        ("overview?run=skip-trigram", "nowhere/film.html", "cannot be written: No such file or directory"),
        ("overview?run=skip-trigram&step=x", "film.html", "step is 'x'"),
    ],
)
def test_what_cannot_be_written_is_explained_and_nothing_is_left(capsys, tmp_path, line, file, said):
    status, out, err = printed(capsys, "film", line, "-o", str(tmp_path / file))
    assert (status, out) == (2, "")
    assert said in err
    assert list(tmp_path.rglob("*.html")) == []


def test_without_runs_a_scene_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="holds no runs yet; train one with: python -m explorer train addition"):
        open_scene("overview", Runs(tmp_path))


def test_a_scene_opens_what_the_page_shows(shipped):
    opened = open_scene("heads?run=addition&of=scores&example=1%2B2", Runs(SHIPPED))
    assert opened.subject.name == shipped.name
    losses, maps = opened.film().panels
    assert isinstance(losses, Curves)
    assert isinstance(maps, Heatmaps)
    assert maps.title.startswith("Attention scores, before softmax on ")
    beside = open_scene("compare?run=addition&align=loss", Runs(SHIPPED)).film()
    assert beside.panels[0].title == "Both runs, aligned by loss"
    assert Subject.load(Runs(SHIPPED).open("addition-finite")).name in beside.panels[0].blocks[0]
