"""Stories: the format, the figures, and every story of the project on its run."""

import json

import pytest

from explorer.cli.main import main
from explorer.cli.story import MOST
from explorer.errors import UserError
from explorer.film.export import deck_page, deck_page_size
from explorer.runs import Runs
from explorer.stories import all_stories, get_story, names
from explorer.stories.figures import rounded
from explorer.stories.telling import Telling
from explorer.views.swept import named, seen
from tests.conftest import SHIPPED
from tests.films import unpacked
from tests.short_story import ASKED, BEAT, MAPS, told


@pytest.mark.parametrize("name", names())
def test_every_story_opens_with_all_its_figures(name):
    story = get_story(name)
    telling = Telling.of(story, seen(named(Runs(SHIPPED), story.run)))
    deck = telling.deck([scene.film() for scene in telling.distinct])
    assert len(deck.slides) == len(story.beats)
    assert 0 < deck_page_size(deck) <= MOST
    assert not any("{{" in slide.headline + slide.text + slide.reveal for slide in deck.slides)


def test_stories_are_in_their_order():
    orders = [story.order for story in all_stories().values()]
    assert orders == sorted(orders)
    with pytest.raises(UserError, match="There is no story 'none'"):
        get_story("none")


def test_beats_that_differ_in_step_and_switches_share_one_film(tmp_path, subject):
    telling = told(tmp_path, BEAT + ASKED + MAPS, subject)
    film = telling.distinct[0].film()
    deck = telling.deck([film])
    assert [slide.film for slide in deck.slides] == [0, 0, 0]
    curve = next(panel for panel in film.panels if panel.id == "losses").lines[0]
    assert deck.slides[0].headline == f"It {rounded(float(curve.smoothed[20]))} falls"
    assert "&lt;b&gt;it&lt;/b&gt;" in deck.slides[0].text
    assert 'data-step="30"' in deck.slides[0].text
    header = unpacked(b"\x04\x00\x00\x00{}  " + deck.packed)
    assert len(header["films"]) == 1
    assert json.dumps(header["slides"][1]["switches"]) == '[["losses", "log", true]]'
    assert deck_page_size(deck) == len(deck_page(deck).encode())
    assert "…" in telling.deck([None]).slides[0].headline


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("\n## " + "word " * 13 + BEAT[BEAT.index("\n\n```") :], 8, "13 words"),
        ("\nwords\n" + BEAT, 8, "in no beat"),
        (BEAT.replace("```scene\noverview?step=20\npanel: losses\n```", ""), 8, "0 scenes"),
        (BEAT.replace("panel: losses", "panel: none"), 11, "no panel 'none'"),
        (BEAT.replace("step=20", "step=21"), 11, "no snapshot at step 21"),
        (BEAT.replace("overview", "nowhere"), 11, "no view 'nowhere'"),
        (BEAT.replace("step:30", "https://example.org"), 15, "a link leads to"),
        (BEAT.replace("at 20}}", "at 21}}"), 8, "the nearest is at step 20"),
        (BEAT.replace("losses/all", "losses/none"), 8, "no curve is called 'none'"),
        (BEAT + "\n| a |\n\n# More\n", 19, "one more heading"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_line(tmp_path, subject, text, line, message):
    def deck() -> None:
        telling = told(tmp_path, text, subject)
        telling.deck([scene.film() for scene in telling.distinct])

    with pytest.raises(UserError, match=rf"^sums\.md, line {line}: .*{message}"):
        deck()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.996, "1.0"), (1578.0, "1,600"), (-0.0312, "−0.031"), (0.0, "0"), (0.52, "0.52"), (1250.0, "1,300")],
)
def test_figures_have_two_significant_digits(value, text):
    assert rounded(value) == text


def test_the_command_lists_the_stories(capsys):
    assert main(["story"]) == 0
    assert capsys.readouterr().out.split() == names()
    assert main(["story", "none", "-o", "x.html"]) == 2
