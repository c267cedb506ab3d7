"""Greedy decoding and teacher forcing at every snapshot, and when answers are learnt."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.analysis.answers import greedy_answers, right_from, teacher_forced_answers
from tests.conftest import TASK


def test_greedy_decoding_feeds_back_the_tokens_that_the_model_wrote(small):
    """The same as running each snapshot alone, token by token."""
    example = TASK.encode("48+76")
    answers = greedy_answers(small.ensemble(), example)
    for i, step in enumerate(small.steps()):
        model, tokens = small.model(step), example.tokens[: example.n_prompt].tolist()
        for place in range(3):
            probabilities = model(torch.tensor([tokens]))[0, -1].softmax(-1)
            torch.testing.assert_close(answers.probabilities[i, place], probabilities, rtol=1e-4, atol=1e-6)
            tokens.append(int(probabilities.argmax()))
        assert answers.tokens[i].tolist() == tokens[example.n_prompt :]
    assert torch.equal(answers.right, answers.tokens == example.targets)


def test_teacher_forced_probabilities_are_those_of_the_loss(small):
    example = TASK.encode("48+76")
    ensemble = small.ensemble()
    answers = teacher_forced_answers(ensemble, example)
    logits, _ = ensemble.run(example.tokens[None])
    losses = TASK.losses(example.batch.at_answers(logits), example.batch)[:, 0]
    right = answers.probabilities.gather(-1, example.targets.expand(5, -1)[..., None])[..., 0]
    torch.testing.assert_close(-right.double().log(), losses, rtol=1e-4, atol=1e-5)


def test_the_first_answer_is_the_same_with_greedy_decoding_and_teacher_forcing(small):
    example = TASK.encode("48+76")
    greedy, forced = greedy_answers(small.ensemble(), example), teacher_forced_answers(small.ensemble(), example)
    torch.testing.assert_close(greedy.probabilities[:, 0], forced.probabilities[:, 0], rtol=1e-4, atol=1e-6)


def test_right_from_is_the_step_after_the_last_mistake():
    right = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    assert right_from(right, [0, 10, 20, 30]) == [0, 10, 20, None]


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.data())
def test_right_from_is_the_first_step_with_no_mistake_at_or_after_it(right, data):
    ascending = st.lists(st.integers(0, 10_000), min_size=len(right), max_size=len(right), unique=True).map(sorted)
    steps = data.draw(ascending)
    expected = next((step for i, step in enumerate(steps) if all(right[i:])), None)
    assert right_from(torch.tensor(right)[:, None], steps) == [expected]
