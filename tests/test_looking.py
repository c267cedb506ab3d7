"""What to look at: every sentence says what the panels show."""

import re

import numpy as np
import pytest

from explorer.film.film import Film
from explorer.film.panels.bars import Bars
from explorer.film.panels.columns import Columns
from explorer.film.panels.curves import Curves, Line
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.raster import Raster
from explorer.film.panels.tokens import Tokens
from explorer.runs import Runs
from explorer.views import all_views
from explorer.views.looking import at_falls, beside_the_first, highest, largest_change, listed
from explorer.views.opening import open_scene
from explorer.views.subject import Subject
from tests.conftest import SHIPPED

STEPS = (0, 5, 10)


def maps(values, id: str = "patterns", labels=("a", "b")) -> Heatmaps:
    return Heatmaps(id, "Maps", ["L0H0", "L0H1"], values, labels, labels, "query", "key", low=0.0, high=1.0)


def test_the_cell_that_changed_most_is_named_with_both_of_its_values():
    values = np.zeros((3, 2, 2, 2))
    values[1:, 1, 1, 0] = 0.61
    values[2, 0, 0, 0] = 0.02  # smaller than what changed most, and later
    values[:, 0, 0, 1] = np.nan  # masked
    first, second, last = largest_change(Film(STEPS, [maps(values)]))
    assert first == "Changed most: L0H1 puts 0.00 of its attention from b on a; at step 10 it will be 0.61."
    assert second == "Changed most: L0H1 puts 0.61 of its attention from b on a; at step 0 it was 0.00."
    assert last == "Changed most: L0H0 puts 0.02 of its attention from a on a; at step 5 it was 0.00."


def test_a_token_that_occurs_twice_is_named_with_its_place():
    values = np.zeros((3, 2, 2, 2))
    values[1, 1, 1, 0] = 1.0
    assert "from ‘x’ at 1 on ‘x’ at 0" in largest_change(Film(STEPS, [maps(values, labels=("x", "x"))]))[1]


def test_nothing_is_said_to_change_where_nothing_changes():
    values = np.zeros((3, 2, 2, 2))
    values[2] = 1.0
    assert largest_change(Film(STEPS, [maps(values)]))[1] == "Hardly anything differs here from what it is at step 0."


def test_other_panels_are_told_in_their_own_words_and_by_their_ids():
    columns = Columns(
        "parts", "Parts", ["MLP", "head"], ["all"], np.array([[[0, 1]], [[0, 3]], [[9, 3]]]), "logit", "part"
    )
    lines = [Line("up", np.array(STEPS), np.array([0.0, 2.0, 2.5]), 0), Line("flat", np.array(STEPS), np.ones(3), 1)]
    curves = Curves("norms", "Norms", lines, unit="norm", by_frame=True)
    film = Film(STEPS, [columns, curves])
    assert largest_change(film)[2] == "Changed most: part MLP: 9.00; at step 5 it was 0.00."
    assert largest_change(film, ("norms",))[1] == "Changed most: up (norm): 2.00; at step 0 it was 0.00."
    assert highest(film, "norms", "norm")[0] == "flat has the highest norm, 1.00; at step 10 it has 1.00."
    assert highest(film, "norms", "norm")[1] == "up has the highest norm, 2.00; at step 10 it has 2.50."
    beside = beside_the_first(film, "norms", "{name} is {value}, not {first}")
    assert beside == ["flat is 1.00, not 0.00", "flat is 1.00, not 2.00", "flat is 1.00, not 2.50"]
    bars = Bars("probabilities", "Probabilities", np.full((3, 1, 2), 0.5), ["units"], ["0", "1"], [0])
    assert largest_change(Film(STEPS, [bars])) == highest(film, "parts", "norm") == []


def test_a_loss_is_falling_between_the_begin_and_the_end_of_its_deepest_fall():
    subject = Subject.load(Runs(SHIPPED).open("addition"))
    said = dict(zip(subject.frames, at_falls(subject, subject.frames), strict=True))
    losses = subject.losses()[0]
    for group, members in subject.groups.items():
        measured = losses.of(members, group)
        (fall,) = measured.deepest
        begins, ends = measured.step(fall.begins), measured.step(fall.ends)
        for step, sentence in said.items():
            now, fallen, later = (
                re.search(rf"{words}: [^.]*\b{group}\b", re.sub(r"\(.*?\)", "", sentence)) is not None
                for words in ("Falling now", "Fallen", "Still to fall")
            )
            if " others" in sentence:
                continue
            assert (now, fallen, later) == (begins <= step < ends, ends <= step, step < begins), (group, step, sentence)
    assert "from 2.1 to 0.23 nats" in said[862]


def test_views_of_what_is_inside_say_where_there_is_little_to_see_yet():
    runs = Runs(SHIPPED)
    film = open_scene("circuits?run=induction", runs).film()
    begins = Subject.load(runs.open("induction")).first_fall()
    assert begins
    for step, sentence in zip(film.steps, film.look, strict=True):
        assert sentence.startswith("Little to see yet") == (step < begins)
        assert (f"step {begins:,}" in sentence) == (step < begins)


def test_what_is_said_of_an_answer_agrees_with_its_strip_and_its_ribbon():
    film = open_scene("answers?run=addition&example=12345%2B67890", Runs(SHIPPED)).film()
    strip, ribbon = film.panels[:2]
    assert isinstance(strip, Tokens)
    assert isinstance(ribbon, Raster)
    assert ribbon.title.endswith("12345+67890: a carry through one nine")
    assert ribbon.marks is not None
    right = strip.answers == np.array(strip.targets)  # (frame answer)
    for frame, (step, sentence) in enumerate(zip(film.steps, film.look, strict=True)):
        assert sentence.startswith(f"{right[frame].sum()} of 6 answers right")
        assert ("for good: " in sentence) == bool((ribbon.marks <= step).any() or (ribbon.marks > step).any())
        for place, mark in zip(ribbon.rows, ribbon.marks, strict=True):
            if mark <= step:
                assert right[frame:, list(ribbon.rows).index(place)].all()
    alone = open_scene("answers?run=modular-addition", Runs(SHIPPED)).film()
    assert alone.look[-1] == "Right; from now on for good."
    assert alone.look[0].startswith("Wrong; right for good from step ")


@pytest.mark.parametrize(
    ("names", "text"),
    [("a", "a"), ("ab", "a and b"), ("abcde", "a, b, c, d and e"), ("abcdef", "a, b, c, d and 2 others")],
)
def test_a_list_of_names_stays_short(names, text):
    assert listed(names) == text


def test_every_view_has_a_question_and_a_sentence():
    headings = [view.heading for view in all_views().values()]
    assert all(heading.endswith("?") for heading in headings)
    assert len(set(headings)) == len(headings)
    assert all(view.sentence.endswith(".") for view in all_views().values())


def test_a_film_as_it_is_shown_has_a_sentence_for_each_frame():
    film = open_scene("heads?run=skip-trigram", Runs(SHIPPED)).film()
    assert len(film.look) == len(film.steps)
    with pytest.raises(ValueError, match="needs as many sentences, not 1"):
        Film(STEPS, [], look=["one"])
    assert (
        Film(STEPS, [], look=["a", "b", "c"]).with_gaps([7]).look[2] == "There are no finite values at this snapshot."
    )
