"""Giving a finished run more steps."""

from dataclasses import replace

import pytest

from explorer.errors import UserError
from explorer.runs import Runs, recorder
from tests.conftest import FINITE, MODEL, TASK, TRAINING, same


@pytest.mark.parametrize(
    "training",
    [TRAINING, FINITE, replace(FINITE, optimiser="sgd", momentum=0.9, lr=0.1)],
    ids=["infinite", "finite", "momentum"],
)
def test_a_run_that_was_given_more_steps_equals_one_that_had_them_at_once(tmp_path, training):
    runs, steps = Runs(tmp_path), training.steps
    straight = recorder.create(runs, "straight", TASK, MODEL, replace(training, steps=3 * steps))
    recorder.train(straight)
    extended = recorder.create(runs, "extended", TASK, MODEL, training, preset="quick")
    for more in (2, 3):
        assert recorder.train(extended).status == "done"
        recorder.extend(extended, more * steps)
        info = extended.info()
        assert (info.status, info.steps_done, info.training.steps) == ("stopped", (more - 1) * steps, more * steps)
    recorder.train(extended)
    assert same(extended, straight)
    info = extended.info()
    assert (info.training, info.preset) == (straight.info().training, "")
    assert info.ended_at == (steps, 2 * steps)
    assert extended.readable([]) == straight.steps()


def test_after_a_cool_down_the_learning_rate_is_that_of_the_new_number_of_steps(tmp_path):
    """No weight changes where the learning rate is 0, at the end of both schedules; in between it is the whole."""
    training = replace(TRAINING, cooldown=0.5, lr=0.01, warmup=0, snapshot_every=1)
    run = recorder.create(Runs(tmp_path), "cooled", TASK, MODEL, training)
    recorder.train(run)
    recorder.extend(run, 80)
    recorder.train(run)
    weights = run.ensemble().weights["embed.W_E"]
    moved = (weights[1:] - weights[:-1]).abs().mean((1, 2))  # (step,) in units of about the learning rate
    assert moved[38:40].mean() < 0.1 * moved[:10].mean()
    assert moved[42:60].min() > 3 * moved[39]
    assert moved[78:].mean() < 0.1 * moved[42:60].mean()


def test_runs_that_cannot_go_on_are_refused(tmp_path, copied):
    for steps in (40, 7):
        with pytest.raises(UserError, match=f"has done 40 steps; give it more than that, not {steps}"):
            recorder.extend(copied, steps)
    copied.resume_file.unlink()
    with pytest.raises(UserError, match="the state of its optimiser was not kept; train a new run of 50 steps"):
        recorder.extend(copied, 50)
    runs = Runs(tmp_path)
    started = recorder.create(runs, "started", TASK, MODEL, TRAINING)
    with pytest.raises(UserError, match="started is not done; resume it"):
        recorder.extend(started, 50)
    ended = recorder.create(runs, "ended", TASK, MODEL, replace(FINITE, stop_below=90.0))
    assert recorder.train(ended).steps_done == 1
    with pytest.raises(UserError, match="ended at step 1, below its stop_below of 90"):
        recorder.extend(ended, 50)
    assert copied.info().training == TRAINING


def test_a_snapshot_of_a_training_with_another_number_of_steps_is_refused(copied):
    recorder.extend(copied, 50)
    assert len(copied.readable([])) == 5
    recorder.write_info(copied, replace(copied.info(), ended_at=()))
    with pytest.raises(UserError, match="was written by another run, with other settings"):
        copied.readable([])
