"""The summaries on the page Runs."""

from dataclasses import replace

import numpy as np
import pytest

from explorer.pages.cache import nbytes
from explorer.pages.run_cards import SPARKLINE_POINTS, card
from explorer.runs import Run, Runs, recorder
from explorer.views.phase_changes import phases
from explorer.views.subject import Subject
from tests.conftest import FINITE, MODEL, TASK


@pytest.fixture
def tested(tmp_path) -> Run:
    """A finite run of 400 steps with a test every seventh, so that a row of test losses is seven steps."""
    run = recorder.create(Runs(tmp_path), "tested", TASK, MODEL, replace(FINITE, steps=400, test_every=7, lr=1e-2))
    recorder.train(run)
    return run


def test_final_losses_are_those_of_the_table_of_phase_changes(tested):
    table = phases(Subject.load(tested))
    for kind, loss in card(tested).final_losses.items():
        of_kind = [phase.final_loss for phase in table if phase.name.endswith(f", {kind}")]
        assert len(of_kind) == len(TASK.loss_names)
        assert loss == pytest.approx(sum(of_kind) / len(of_kind), rel=1e-5)
    assert card(tested).final_losses.keys() == {"train", "test"}


def test_curves_are_thinned_and_counted_by_the_cache(tested):
    summary = card(tested)
    (steps, losses), (test_steps, test_losses) = summary.curves["train"], summary.curves["test"]
    assert steps.tolist() == list(range(0, 400, 2))
    assert len(steps) <= SPARKLINE_POINTS
    np.testing.assert_array_equal(test_steps, np.arange(0, 400, 7))
    assert losses[0] == tested.metrics()["train_loss"][0]
    assert nbytes(summary) >= sum(values.nbytes for values in (steps, losses, test_steps, test_losses))


def test_a_run_that_has_not_begun_has_no_losses(tmp_path):
    summary = card(recorder.create(Runs(tmp_path), "new", TASK, MODEL, FINITE))
    assert summary.final_losses == {}
    assert [len(values) for values in summary.curves["train"]] == [0, 0]
    assert summary.progress.startswith("stopped, 0 of 30 steps, 0 snapshots")
