"""The summaries on the page Runs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from explorer.pages.cache import nbytes
from explorer.pages.run_cards import SPARKLINE_POINTS, card
from explorer.runs import Run, Runs, recorder
from tests.conftest import FINITE, MODEL, TASK


@pytest.fixture
def tested(tmp_path) -> Run:
    """A finite run of 400 steps with a test every seventh, so that a row of test losses is seven steps."""
    run = recorder.create(Runs(tmp_path), "tested", TASK, MODEL, replace(FINITE, steps=400, test_every=7, lr=1e-2))
    recorder.train(run)
    return run


def test_final_losses_are_smoothed_over_steps_not_rows(tested):
    metrics, card_of_run = tested.metrics(), card(tested)
    assert card_of_run.final_losses.keys() == {"train", "test"}
    for kind, spacing in (("train", 1), ("test", 7)):
        losses = metrics[f"{kind}_loss"]
        beta = 0.9**spacing
        ages = torch.arange(len(losses)).flip(0)
        weights = torch.where(ages < len(losses) - 1, 1 - beta, 1.0) * beta**ages
        assert card_of_run.final_losses[kind] == pytest.approx(float((weights * losses).sum()), rel=1e-5)


def test_curves_are_thinned_and_counted_by_the_cache(tested):
    summary = card(tested)
    (steps, losses), (test_steps, test_losses) = summary.curves["train"], summary.curves["test"]
    assert steps.tolist() == list(range(0, 400, 2))
    assert len(steps) <= SPARKLINE_POINTS
    np.testing.assert_array_equal(test_steps, np.arange(0, 400, 7))
    assert losses[0] == tested.metrics()["train_loss"][0]
    assert nbytes(summary) >= sum(values.nbytes for values in (steps, losses, test_steps, test_losses))


def test_a_loss_that_is_not_a_number_at_the_end_is_not_hidden_by_smoothing(tested):
    metrics = tested.metrics()
    metrics["train_loss"][300:] = torch.nan
    save_file(metrics, tested.folder / "metrics.safetensors")
    summary = card(tested)
    assert math.isnan(summary.final_losses["train"])
    assert np.isnan(summary.curves["train"][1]).sum() == 50  # of 200 points
    assert summary.final_losses["test"] > 0


def test_a_run_that_has_not_begun_has_no_losses(tmp_path):
    summary = card(recorder.create(Runs(tmp_path), "new", TASK, MODEL, FINITE))
    assert summary.final_losses == {}
    assert [len(values) for values in summary.curves["train"]] == [0, 0]
    assert summary.progress.startswith("stopped, 0 of 30 steps, 0 snapshots")
