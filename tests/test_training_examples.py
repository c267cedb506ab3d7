"""When single training examples are learnt: the measure, and the film."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.analysis.examples import learnt_from, losses_by_example
from explorer.errors import UserError
from explorer.film.panels.curves import Curves
from explorer.film.panels.raster import Raster
from explorer.runs import Runs, recorder
from explorer.tasks.induction import Induction
from explorer.tasks.modular_addition import ModularAddition
from explorer.views import losses, training_examples
from explorer.views.subject import Subject
from tests.conftest import FINITE, MODEL, TASK
from tests.films import of


@pytest.fixture(scope="module")
def memorised(tmp_path_factory) -> Subject:
    """Forty sums that are learnt by heart, at different steps."""
    training = replace(FINITE, steps=60, lr=0.01, snapshot_every=3)
    run = recorder.create(Runs(tmp_path_factory.mktemp("memorised")), "memorised", TASK, MODEL, training)
    recorder.train(run)
    return Subject.load(run)


def test_an_example_is_learnt_where_its_loss_stays_low():
    rows = [[3, 1, 3, 1, 3], [1, 1, 3, 1, 3], [1, 1, 1, 3, 3], [1, 1, 1, 1, 3]]  # (snapshot example)
    assert learnt_from(torch.tensor(rows).double(), 1.0).tolist() == [1, 0, 2, 3, 4]


@pytest.mark.parametrize("budget", [1, 10**5, 10**9])
def test_losses_in_parts_are_those_of_each_model(memorised, budget):
    batch = TASK.training_set(memorised.info.training)
    found = losses_by_example(memorised.ensemble, TASK, batch, budget)
    assert found.shape == (21, 40)
    for i in (0, 5, 20):
        model = memorised.run.model(memorised.steps[i])
        expected = TASK.losses(batch.at_answers(model(batch.tokens)), batch).mean(-1)
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-6)
    recorded = memorised.metrics["train_loss"][memorised.steps[5]]
    torch.testing.assert_close(found[5].mean(), recorded, rtol=1e-4, atol=1e-6)


def test_the_film_has_a_row_for_each_example_sorted_by_when_it_is_learnt(memorised):
    film = training_examples.film(memorised)
    (raster,) = of(Raster, film)
    assert raster.values.shape == (40, 21)
    assert sorted(raster.rows) == sorted(
        "".join(TASK.tokens[token] for token in row) for row in TASK.training_set(memorised.info.training).tokens
    )
    learnt = raster.marks[np.isfinite(raster.marks)]
    assert len(learnt) > 30
    assert len(set(learnt)) > 2
    assert np.isnan(raster.marks[len(learnt) :]).all()  # what is never learnt comes last
    assert (np.diff(learnt) >= 0).all()
    level = TASK.references[0].mean / 2
    for row, onset in zip(raster.values, raster.marks, strict=True):
        later = row[raster.steps >= onset] if np.isfinite(onset) else row[-1:]
        assert (later <= level).all() == np.isfinite(onset)
    share = of(Curves, film)[-1].lines[0].values
    assert (share[0], share[-1]) == (0, len(learnt) / 40)


def test_only_some_of_many_examples_have_a_row(memorised, monkeypatch):
    monkeypatch.setattr(training_examples, "MAX_ROWS", 15)
    (raster,) = of(Raster, training_examples.film(memorised))
    assert len(raster.rows) == 14
    assert raster.title.startswith("Loss of one in 3 training examples")
    assert raster.figure(0, memorised.steps).layout.height == 240 + 18 * 14


@pytest.mark.parametrize(
    ("task", "training", "first"),
    [
        (ModularAddition(p=13), replace(FINITE, finite=0), " ="),
        (Induction(stretch=5, interval=8, answers="all"), replace(FINITE, finite=20), "⊢"),
    ],
    ids=["modular", "induction"],
)
def test_examples_of_other_tasks_are_written_by_their_tokens(tmp_path, task, training, first):
    model = task.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32)
    run = recorder.create(Runs(tmp_path), "other", task, model, training)
    recorder.train(run)
    subject = Subject.load(run)
    (raster,) = of(Raster, training_examples.film(subject))
    assert len(raster.rows) == task.n_train(training)
    assert all(first in row for row in raster.rows)


def test_infinite_data_have_no_training_examples_to_show(subject, monkeypatch, memorised):
    assert not training_examples.has_few_examples(subject)
    with pytest.raises(UserError, match="small is trained on new examples at every step, so choose another run"):
        training_examples.film(subject)
    assert training_examples.has_few_examples(memorised)
    monkeypatch.setattr(training_examples, "MAX_EXAMPLES", 39)
    assert not training_examples.has_few_examples(memorised)
    with pytest.raises(UserError, match=r"at most 39 of them; .* is trained on the same 40 examples, so"):
        losses.LossesView().film(memorised, "1+2", losses.Options("examples", None, 0.9))
