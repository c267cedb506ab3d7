"""Answers of every snapshot, and when they were learnt."""

import pytest
import torch

from explorer.analysis.answers import greedy_answers, right_from, teacher_forced_answers
from explorer.analysis.phases import first_fall, smooth
from tests.conftest import TASK


def test_own_answers_read_what_the_model_itself_wrote(small):
    """The same as feeding each snapshot by hand, token by token."""
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


def test_taught_answers_have_the_probability_of_the_loss(small):
    example = TASK.encode("48+76")
    ensemble = small.ensemble()
    answers = teacher_forced_answers(ensemble, example)
    logits, _ = ensemble.run(example.tokens[None])
    losses = TASK.losses(example.batch.asked(logits), example.batch)[:, 0]
    right = answers.probabilities.gather(-1, example.targets.expand(5, -1)[..., None])[..., 0]
    torch.testing.assert_close(-right.double().log(), losses, rtol=1e-4, atol=1e-5)


def test_own_and_taught_first_answers_agree(small):
    example = TASK.encode("48+76")
    own, taught = greedy_answers(small.ensemble(), example), teacher_forced_answers(small.ensemble(), example)
    torch.testing.assert_close(own.probabilities[:, 0], taught.probabilities[:, 0], rtol=1e-4, atol=1e-6)


def test_stays_from_is_the_step_after_the_last_mistake():
    right = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    assert right_from(right, [0, 10, 20, 30]) == [0, 10, 20, None]


def test_first_fall_is_where_the_plateau_ends():
    uniform, best = torch.tensor([2.0, 2.0]), torch.tensor([0.0, 0.0])
    losses = torch.full((300, 2), 2.0)
    losses[100:, 0] = 0.0
    losses[200:, 1] = 0.0
    # One row late: the average takes a row to follow.
    assert first_fall(losses, uniform, best) == 100
    assert first_fall(losses[:, 1:], uniform[1:], best[1:]) == 200


@pytest.mark.parametrize("level", [2.0, 0.5])
def test_no_fall_is_said_so(level):
    """Neither a loss that never falls nor one that never was high has a phase change."""
    assert first_fall(torch.full((50, 1), level), torch.tensor([2.0]), torch.tensor([0.0])) is None


def test_smoothing_keeps_a_constant_and_skips_gaps():
    losses = torch.tensor([[3.0], [float("nan")], [3.0], [0.0]])
    torch.testing.assert_close(smooth(losses, 0.9)[:, 0], torch.tensor([3.0, 3.0, 3.0, 2.7]).double())
