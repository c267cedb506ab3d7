"""Means over samples that grow, and films of them."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.analysis.heads import occurrence_losses
from explorer.analysis.samples import ERRORS, Estimate, Tally
from explorer.film.film import Film
from explorer.pages.cache import Growing
from explorer.runs import Runs
from explorer.tasks.induction import Induction
from explorer.views import cut, sampling
from explorer.views.heads import IN_CONTEXT, scores_films
from explorer.views.sampling import grown
from explorer.views.subject import Subject
from explorer.views.view import last
from tests.conftest import SHIPPED, random_ensemble
from tests.films import values

NORMAL = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def tallied(*parts: torch.Tensor) -> Estimate:
    tally = Tally()
    for part in parts:
        tally.add(part)
    return tally.estimate()


@settings(deadline=None)
@given(cuts=st.sets(st.integers(1, 49), max_size=6), offset=st.sampled_from([0.0, 1e6, -1e9]))
def test_a_sample_in_parts_has_the_mean_and_the_error_of_the_whole(cuts, offset):
    whole = NORMAL[:, :50] + offset
    found = tallied(*whole.tensor_split(sorted(cuts), 1))
    torch.testing.assert_close(found.mean, whole.mean(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.error, whole.std(1) / math.sqrt(50), rtol=1e-5, atol=0)
    assert found.n == 50


def test_examples_without_a_value_do_not_count():
    values = torch.tensor([[1.0, math.nan, 3.0, math.nan], [math.nan] * 4, [math.nan, math.nan, math.nan, 5.0]])
    found = tallied(values[:, :1], values[:, 1:])
    np.testing.assert_allclose(found.mean, [2, math.nan, 5])
    np.testing.assert_allclose(found.error, [1, math.nan, math.nan])  # one example says nothing about the error


def test_the_error_of_a_share_is_not_zero_where_all_values_are_equal():
    found = tallied(torch.ones(2, 96, dtype=torch.bool), torch.tensor([[True] * 4, [False] * 4]))
    assert found.mean.tolist() == [1, 0.96]
    p = torch.tensor([102 / 104, 98 / 104], dtype=torch.float64)
    torch.testing.assert_close(found.error, (p * (1 - p) / 104).sqrt())


def test_an_interval_holds_the_truth():
    """Of 1,000 samples of 100, 997 are expected to; the true mean is 0."""
    samples = torch.randn(1000, 100, generator=torch.Generator().manual_seed(1))
    found = tallied(samples)
    torch.testing.assert_close(found.interval, ERRORS * found.error)
    assert 990 <= (found.mean.abs() <= found.interval).sum() < 1000


def test_an_estimate_is_precise_if_each_interval_is_small_against_its_mean_or_the_largest():
    def precise(means, errors):
        return Estimate(torch.tensor(means).double(), torch.tensor(errors).double(), 9).is_precise

    assert precise([10.0, 1.0], [0.3, 0.03])
    assert precise([10.0, 0.0], [0.3, 0.16])  # an interval of 0.48 is invisible beside 10
    assert not precise([10.0, 0.0], [0.3, 0.17])
    assert not precise([10.0, 1.0], [0.34, 0.01])
    assert not precise([10.0, 1.0], [0.1, math.nan])
    assert precise([10.0, math.nan], [0.1, math.nan])  # nothing that a larger sample could show


def test_independent_errors_add_in_squares():
    found = Estimate(torch.ones(1).double(), torch.tensor([3.0]).double(), 5).with_error(torch.tensor([4.0]).double())
    assert found.error.tolist() == [5]


# --- Films ---


def films_of(subject: Subject, spread: float, errors: float = 0.0) -> Iterator[tuple[Film, float]]:
    """Films of a mean of 10 with this spread over examples."""

    def measure(batch):
        noise = batch.tokens[:, 0] % 2 * 2.0 - 1  # 1 or -1, by the first digit
        return {"value": (10 + spread * noise).expand(len(subject.steps), 1, -1)}

    def draw(found):
        title = sampling.size(subject, found["value"].n)
        return Film(subject.steps, [sampling.curves(subject, "value", title, ["value"], found["value"], "nats")])

    extra = {"value": torch.full((len(subject.steps), 1), errors).double()}
    return grown(subject, subject.unseen(512), measure, draw, passes=10**6, errors=extra)


def sizes(films: Iterator[tuple[Film, float]]) -> list[int]:
    return [int(film.panels[0].title.split()[1]) for film, _ in films]


def test_a_sample_grows_until_it_is_precise_and_films_come_when_it_has_doubled(small):
    subject = Subject.load(small)
    assert sizes(films_of(subject, spread=1)) == [16, 32, 32, 64]  # 64 at least
    found = sizes(films_of(subject, spread=5))
    assert found[-1] < 512
    assert set(found[:-1]) <= {16, 32, 64, 128, 256}
    assert 3 * 5 / math.sqrt(found[-1]) == pytest.approx(1, abs=0.05)  # a tenth of the mean


def test_a_sample_that_stays_imprecise_is_used_up(small):
    subject = Subject.load(small)
    films = list(films_of(subject, spread=40))
    assert films[-1][0].panels[0].title == "on 512 unseen sums, ± 3 standard errors"
    assert [share for _, share in films] == pytest.approx([16 * i / 512 for i in range(1, 33)])
    assert len({id(film) for film, _ in films}) == 6  # 16, 32 ... 512
    assert sizes(films_of(subject, spread=1, errors=2))[-1] == 512  # an error that no larger sample reduces


def test_a_growing_film_is_kept_and_goes_on_where_it_was(small):
    growing = Growing.begun(films_of(Subject.load(small), spread=40))
    assert growing.share == 16 / 512
    growing.grow()
    growing.grow()
    assert growing.share == 48 / 512
    for _ in range(40):
        growing.grow()
    assert growing.share == 1
    assert growing.film.panels[0].title.startswith("on 512")


@pytest.mark.parametrize("name", Runs(SHIPPED).names())
def test_doubling_the_sample_changes_no_effect_by_more_than_its_interval(name, monkeypatch):
    """Mean ablation of each component at six snapshots of every run that ships, on up to 128 examples."""
    monkeypatch.setattr(sampling, "WORK", 1)  # small parts
    subject = Subject.load(Runs(SHIPPED).open(name)).thinned(6)
    found: dict[int, dict[str, np.ndarray]] = {}
    intervals: dict[int, dict[str, np.ndarray]] = {}
    for film, _ in cut.ablate_each_films(subject, "mean"):
        panel = film.panels[1]
        n = int(panel.title.split(" on ")[-1].split()[0])
        found[n] = values(panel)
        intervals[n] = {line.label: line.interval for line in panel.lines}
        if n >= 128:
            break
    few, many = sorted(found)[-2:]
    assert few >= 32
    assert many > few
    for component, effect in found[few].items():
        assert (np.abs(effect - found[many][component]) <= intervals[few][component]).all(), component


def test_means_are_taken_over_other_examples_than_those_that_are_measured(monkeypatch, small):
    subject, seen = Subject.load(small), {"reference": [], "measured": []}
    means, each = cut.ablation.mean_outputs, cut.ablation.ablate_each

    def noted_means(ensemble, of, tokens):
        seen["reference"].append(tokens)
        return means(ensemble, of, tokens)

    def noted_each(ensemble, task, batch, means):
        seen["measured"].append(batch.tokens)
        return each(ensemble, task, batch, means)

    monkeypatch.setattr(cut.ablation, "mean_outputs", noted_means)
    monkeypatch.setattr(cut.ablation, "ablate_each", noted_each)
    unseen = subject.unseen(cut.REFERENCE + sampling.MOST).tokens
    last(cut.ablate_each_films(subject, "mean"))
    reference = torch.cat(seen["reference"])
    assert torch.equal(reference, unseen[: cut.REFERENCE])
    measured = torch.cat(seen["measured"][cut.REPLICATES :])
    assert torch.equal(measured, unseen[cut.REFERENCE :][: len(measured)])


def test_the_mean_over_the_reference_is_that_of_its_parts(small):
    subject = Subject.load(small)
    every = cut.components(subject.info.model)
    replicates, _ = cut._replicates_and_sample(subject, every, "mean")
    whole = cut.ablation.mean_outputs(
        subject.ensemble,
        every,
        subject.unseen(cut.REFERENCE + sampling.MOST).tokens[: cut.REFERENCE],
    )
    for name, mean in cut._mean_of(replicates).items():
        torch.testing.assert_close(mean, whole[name], rtol=1e-4, atol=1e-6)


# --- In context ---


def test_losses_in_context_are_those_of_the_stretch_at_each_occurrence():
    task = Induction(stretch=3, interval=5)
    cfg = task.model_config(d_model=8, n_heads=2, d_head=4, n_layers=2, attn_only=True)
    ensemble, batch = random_ensemble(cfg), task.endless_stream(4, 0).next()
    occurrences = task.occurrences(batch)
    assert occurrences.shape == (4, 3, 2)
    found = occurrence_losses(ensemble, batch.tokens, occurrences)
    logits, _ = ensemble.run(batch.tokens)
    log_p = logits.double().log_softmax(-1)
    for text in range(4):
        for place in range(3):
            start = int(batch.extra["starts"][text, place])
            stretch = batch.tokens[text, start : start + 3].tolist()
            assert stretch == batch.tokens[text, batch.extra["starts"][text, 0] :][:3].tolist()
            expected = -(log_p[:, text, start, stretch[1]] + log_p[:, text, start + 1, stretch[2]]) / 2
            torch.testing.assert_close(found[:, place, text], expected)


def test_the_in_context_score_is_the_last_loss_minus_the_first(copies):
    film = next(scores_films(copies, "unseen"))[0]
    (panel,) = [panel for panel in film.panels if panel.id == IN_CONTEXT.replace(" ", "-")]
    first, second, third, score = values(panel).values()
    np.testing.assert_allclose(score, third - first, rtol=1e-6, atol=1e-9)
    assert not np.allclose(second, third)


def test_more_examples_can_be_drawn_than_a_test_had(small):
    subject = Subject.load(small)
    assert subject.info.training.test_batch_size < 300
    assert len(subject.unseen(300).tokens) == 300
    grokking = Subject.load(Runs(SHIPPED).open("modular-addition"))
    every = grokking.unseen(10**5)
    task = dataclasses.replace(grokking.task)
    assert len(every.tokens) == task.p**2 - task.n_train(grokking.info.training)
    assert not task.are_in_training_data(every, grokking.info.training).any()
