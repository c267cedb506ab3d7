"""Induction: the golden stream, copies and mask, typed texts."""

import itertools
import math

import numpy as np
import pytest
import torch

from explorer.errors import UserError
from explorer.tasks.induction import Induction

TASK = Induction()


def test_the_first_row_is_the_golden_one():
    batch = TASK.endless_stream(128, 123).next()
    assert batch.tokens[0, :12].tolist() == [0, 110, 127, 67, 93, 99, 103, 18, 84, 107, 124, 58]


def test_training_begins_with_the_second_batch():
    training = TASK.presets["notebook"].training
    stream = TASK.endless_stream(128, 123)
    stream.next()
    assert torch.equal(TASK.train_stream(training).next().tokens, stream.next().tokens)


def test_copies_equal_the_stretch_and_all_but_their_first_tokens_are_answers():
    batch = TASK.sample(200, np.random.RandomState(0))
    assert batch.tokens.shape == (200, 85)
    assert (batch.tokens[:, 0] == 0).all()
    assert batch.tokens[:, 1:].min() >= 1
    starts = batch.extra["starts"]
    for interval in range(3):
        assert starts[:, interval].min() == 1 + 28 * interval
        assert starts[:, interval].max() == 28 * (interval + 1) - 15
    for row, (first, *copies) in zip(batch.tokens, starts.tolist(), strict=True):
        for copy in copies:
            assert torch.equal(row[copy : copy + 16], row[first : first + 16])
    expected = torch.cat([starts[:, [copy]] + torch.arange(15) for copy in (1, 2)], 1)
    assert torch.equal(batch.positions, expected)
    assert torch.equal(batch.targets, batch.tokens.gather(1, expected + 1))


def test_losses_are_named_by_copy_and_token():
    assert len(TASK.loss_names) == len(TASK.loss_groups) == 30
    assert TASK.loss_names[0] == "copy 1, token 2"
    assert TASK.loss_names[-1] == "copy 2, token 16"
    assert TASK.loss_groups[14:16] == ("copy 1", "copy 2")
    assert TASK.references[0].losses[0] == pytest.approx(4.844187)


def test_answers_are_what_followed_the_last_occurrence_of_a_token():
    example = TASK.encode("xabcyabcz ab")
    asked = {
        position: TASK.tokens[target]
        for position, target in zip(example.positions.tolist(), example.targets.tolist(), strict=True)
    }
    assert asked == {6: "b", 7: "c", 11: "b", 12: "c"}  # the last is after the end
    assert example.places[0] == "after a (6)"


def test_characters_and_tokens_are_one_to_one():
    assert len(TASK.tokens) == 128
    assert len(set(TASK.tokens)) == 128
    text = "~ ß! À~ ß! À"
    tokens = TASK.encode(text).tokens
    assert (tokens[1], tokens[2], tokens[3]) == (95, 1, 127)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("abc", "nothing repeats"),
        ("a" * 85, "85 characters"),
        ("abcđabc", "'đ' is no token"),
        ("", "nothing repeats"),
    ],
)
def test_invalid_texts_are_refused(typed, said):
    with pytest.raises(UserError, match=said):
        TASK.encode(typed)


def test_written_marks_what_is_wrong_below_it():
    example = TASK.encode("abcdabcd")
    answer = example.targets.tolist()
    answer[1] = TASK.tokens.index("x")
    assert TASK.written(example, answer).split("\n") == ["text  abcdabcd", "model      bxda", "            ^"]


# --- Its settings ---


def test_more_copies_and_more_tokens():
    task = Induction(copies=4, vocabulary=129)
    assert (task.n_ctx, len(task.loss_names), task.loss_names[-1]) == (141, 60, "copy 4, token 16")
    assert (task.tokens[-1], len(set(task.tokens))) == ("à", 129)
    assert task.references[0].losses[0] == pytest.approx(math.log(128))
    assert task.encode("àbcàb").tokens.tolist()[1] == 128
    batch = task.sample(300, np.random.RandomState(0))
    assert batch.tokens[:, 1:].max() == 128
    starts = batch.extra["starts"]
    assert starts.shape == (300, 5)
    for row, (first, *copies) in zip(batch.tokens, starts.tolist(), strict=True):
        assert [len(range(copy, copy + 16)) for copy in copies] == [16] * 4
        assert all(torch.equal(row[copy : copy + 16], row[first : first + 16]) for copy in copies)
    assert torch.equal(batch.targets, batch.tokens.gather(1, batch.positions + 1))


@pytest.mark.parametrize("copies", [1, 2, 8])
def test_nothing_repeats_in_the_noise_of_an_example(copies):
    """So that the only induction in it is that of the stretch."""
    task = Induction(copies=copies)
    text = task.examples["a stretch, copied twice"]
    assert len(text) == task.n_ctx - 1
    noise = text.replace("blacksmith forge", "\0")
    pairs = [text for text in map("".join, itertools.pairwise(noise)) if "\0" not in text]
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize(("vocabulary", "foreign"), [(96, "À"), (128, "à"), (256, "Š")])
def test_characters_beyond_the_vocabulary_are_refused(vocabulary, foreign):
    task = Induction(vocabulary=vocabulary)
    assert len(task.tokens) == len(set(task.tokens)) == vocabulary
    last = task.characters[-1]
    assert task.encode(f"{last}a{last}a").tokens[1] == vocabulary - 1
    with pytest.raises(UserError, match=f"'{foreign}' is no token of this task"):
        task.encode(f"{foreign}a{foreign}a")


def test_the_loss_may_be_of_all_tokens():
    task = Induction(answers="all")
    batch, copied = (one.sample(20, np.random.RandomState(0)) for one in (task, TASK))
    assert torch.equal(batch.tokens, copied.tokens)
    assert torch.equal(batch.positions, torch.arange(84).expand(20, -1))
    assert torch.equal(batch.targets, batch.tokens[:, 1:])
    uniform, optimal = task.references
    assert uniform.mean == pytest.approx(4.844187, abs=1e-6)
    assert optimal.mean == pytest.approx(3.114120, abs=1e-6)
    assert task.loss_names == (*TASK.loss_names, "random tokens")
    assert optimal.losses == (*(0,) * 30, pytest.approx(math.log(127)))


def test_losses_of_all_tokens_are_averaged_by_copy_and_place_and_over_the_random_tokens():
    """With a loss of 0 for what can be copied and of 1 for what cannot, of two snapshots."""
    task = Induction(answers="all")
    batch = task.sample(20, np.random.RandomState(0))
    losses = torch.ones(20, 84).double()
    losses[torch.arange(20)[:, None], TASK.sample(20, np.random.RandomState(0)).positions] = 0
    per_token = task.per_token(torch.stack([losses, 2 * losses]), batch)
    assert per_token.tolist() == [[0.0] * 30 + [1.0], [0.0] * 30 + [2.0]]


def test_typed_texts_ask_for_what_repeats_also_where_all_tokens_count():
    assert Induction(answers="all").encode("xabcyabcz ab") == TASK.encode("xabcyabcz ab")


def test_a_stretch_must_fit_into_its_interval():
    with pytest.raises(UserError, match="stretch is 9"):
        Induction(stretch=9, interval=8)
