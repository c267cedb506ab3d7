"""The runs that ship show what they are shipped for."""

import json
import math
from dataclasses import replace

import pytest
import torch

from explorer.analysis.answers import greedy_answers, teacher_forced_answers
from explorer.analysis.circuits import composition_scores, copying_scores, ov_circuit, scores_from_token
from explorer.analysis.fourier import basis, gini, key_frequencies, norms_by_frequency, weight_norms
from explorer.analysis.fourier_grid import component_norms, neuron_frequencies, progress_measures, top_terms
from explorer.analysis.heads import head_scores, repeated_tokens
from explorer.analysis.smoothing import smooth
from explorer.cli.main import main
from explorer.measures import get_measure
from explorer.measures import shipping as shipped_measures
from explorer.measures.measure import Measured, files_of
from explorer.options import resolve
from explorer.runs import Run, Runs, shipping
from explorer.views.measuring import MeasuredView, kept
from explorer.views.subject import Subject
from tests.conftest import RUN_VIEWS, SHIPPED

NAMES = Runs(SHIPPED).names()


@pytest.fixture
def run(request) -> Run:
    return Runs(SHIPPED).open(request.param)


@pytest.mark.parametrize("run", NAMES, indirect=True)
def test_a_shipped_run_is_whole_and_small(run):
    info = run.info()
    assert info.status == "done"
    assert (info.task.name, info.preset) == shipping.SHIPPED[run.name]
    assert info.training == info.task.presets[info.preset].training
    assert 40 <= len(run.ensemble()) <= 100
    assert len(run.metrics()["train_loss"]) == info.steps_done == info.training.steps
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) <= shipping.MAX_FILE


def test_all_shipped_runs_fit_their_limit():
    assert set(NAMES) == set(shipping.SHIPPED)
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= shipping.MAX_ALL


@pytest.mark.parametrize("run", NAMES, indirect=True)
def test_the_measures_that_ship_are_whole_and_each_opens_its_view(run):
    subject, files = Subject.load(run), set()
    of = Measured(subject.info, subject.ensemble)
    views = [view for view in RUN_VIEWS.values() if isinstance(view, MeasuredView)]
    for name, values in shipped_measures.SHIPPED[run.name]:
        measure = get_measure(name)
        settings = replace(measure.chosen(run, of), **values)
        files.add(files_of(run, measure, settings).file.name)
        shown = 0
        for view in views:
            options, _ = resolve(view.options_type, subject, subject.first_example, values)
            for needed in view.needs(subject, options):
                if (needed[0].name, needed[1]) == (name, settings):
                    found = kept(subject, needed)  # None if it is stale
                    assert found
                    assert found.share == 1
                    assert view.unavailable(subject, subject.first_example, options) == ""
                    shown += 1
        assert shown == 1, (name, values)
    assert {path.name for path in (run.folder / "measures").iterdir() if path.suffix != ".log"} == files


@pytest.mark.parametrize("run", NAMES, indirect=True)
def test_snapshots_have_the_losses_that_were_recorded(run):
    """What the weights on disk give on the batch of their step is what training measured, within 1 %."""
    info, metrics, steps = run.info(), run.metrics(), run.steps()
    stream = info.task.train_stream(info.training)
    batches = {}
    for step in range(max(steps)):
        batch = stream.next()
        if step in steps[:: len(steps) // 5]:
            batches[step] = batch
    for step, batch in batches.items():
        loss = info.task.losses(batch.at_answers(run.model(step)(batch.tokens)), batch).mean().item()
        assert loss == pytest.approx(metrics["train_loss"][step].item(), rel=0.03, abs=1e-4), step


@pytest.mark.parametrize("run", ["addition"], indirect=True)
def test_addition_is_learned(run):
    """At least 90 of 100 random sums at the last step, none at step 0, every digit by the model itself."""
    task, ensemble = run.info().task, run.ensemble()
    ends = ensemble.select(slice(None, None, len(ensemble) - 1))
    sums = task.sample(100, torch.Generator().manual_seed(2026)).tokens[:, : 2 * task.n_digits + 1]
    right = torch.zeros(2)
    for tokens in sums:
        text = "".join(task.tokens[token] for token in tokens.tolist())
        right += greedy_answers(ends, task.encode(text)).all_right
    assert right[0] == 0
    assert right[1] >= 90


@pytest.mark.parametrize("run", ["addition"], indirect=True)
def test_the_example_of_the_landing_page_turns_from_wrong_to_right(run):
    task = run.info().task
    answers = greedy_answers(run.ensemble(), task.encode("12345+67890"))
    assert next(iter(task.examples.values())) == "12345+67890"
    assert not answers.all_right[0]
    assert answers.all_right[-1]


@pytest.mark.parametrize("run", ["addition"], indirect=True)
def test_digits_fall_one_after_another(run):
    """Each digit but the leading one starts near a uniform guess and gets half of the way at a step of its own."""
    losses = smooth(run.metrics()["train_loss_per_token"])
    half = {name: int((losses[:, i] <= 1.15).long().argmax()) for i, name in enumerate(run.info().task.loss_names)}
    order = sorted(half, key=half.get)
    assert order[:3] == ["100k", "10k", "tens"]
    assert order[-1] == "hundreds"
    assert half["10k"] > 100
    assert half["hundreds"] - half["tens"] > 300
    assert (losses[-1] < 0.1).all()


@pytest.mark.parametrize("run", ["addition-finite"], indirect=True)
def test_finite_data_are_memorised_long_before_the_model_generalises(run):
    metrics = run.metrics()
    train, test = smooth(metrics["train_loss"]), smooth(metrics["test_loss"])
    memorised = int((train < 0.01).long().argmax())
    understood = int(((test < 0.5) & (torch.arange(len(test)) > memorised)).long().argmax())
    assert memorised < 800
    assert test[memorised] > 1.0
    assert understood > memorised + 1000
    assert test[-1] < 0.4


@pytest.mark.parametrize("run", NAMES, indirect=True)
def test_a_talk_opens_before_the_first_fall(run):
    subject = Subject.load(run)
    step = subject.opening_step()
    assert step in subject.steps
    assert step > 0
    example = subject.task.encode(next(iter(subject.task.examples.values())))
    assert not teacher_forced_answers(subject.ensemble, example).all_right[subject.steps.index(step)]


@pytest.mark.parametrize("run", ["skip-trigram", "skip-trigram-finite"], indirect=True)
def test_trigrams_are_learnt_one_after_another_within_a_hundred_steps(run):
    metrics = run.metrics()
    losses = smooth(metrics.get("test_loss_per_token", metrics["train_loss_per_token"]))
    half = (losses < math.log(10) / 2).long().argmax(0)
    assert half.min() > 90
    assert half.max() - half.min() < 100
    assert len(half.unique()) >= 8
    assert (losses[-1] < 0.2).all()
    assert metrics["attention_gradient"].shape == (1000, 10)
    assert metrics["accuracy"][-1] == 1


@pytest.mark.parametrize("run", ["skip-trigram", "skip-trigram-finite"], indirect=True)
def test_the_head_of_skip_trigrams_ends_as_a_table(run):
    """Each trigger writes its own answer most, and the end looks at every trigger rather than at any filler."""
    task, ensemble = run.info().task, run.ensemble()
    triggers = list(task.answered_inputs)
    own = ov_circuit(ensemble, 0)[:, 0, triggers].argmax(-1) == torch.arange(10)
    assert own[0].sum() < 5
    assert own[-1].all()
    end = task.tokens.index("=")
    scores = scores_from_token(ensemble, 0, end, task.n_ctx - 1)[:, 0]
    fillers = [token for token in range(len(task.tokens)) if task.tokens[token].islower()]
    assert scores[0, triggers].min() < scores[0, fillers].max()
    assert scores[-1, triggers].min() > scores[-1, fillers].max() + 5


@pytest.mark.parametrize("run", ["induction"], indirect=True)
def test_induction_heads_form_while_the_loss_falls(run):
    """On a text that begins as training texts do and then says an interval of 28 tokens twice, heads of layer 1 begin
    to attend to what came after the earlier occurrence; those of layer 0 never do."""
    task, ensemble = run.info().task, run.ensemble()
    tokens = repeated_tokens(len(task.tokens), task.interval, 4)
    tokens = torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1)
    scores = head_scores(ensemble, tokens)["prefix matching"]  # (snapshot head)
    losses = smooth(run.metrics()["train_loss"])
    loss = losses[torch.tensor(ensemble.steps).clamp(max=len(losses) - 1)]
    best = scores[:, 4:].max(1).values
    assert best[loss > 4].max() < 0.2
    assert best[loss < 1.4].min() > 0.5
    assert scores[-1, 4:].min() > 0.6
    assert scores[:, :4].max() < 0.1


@pytest.mark.parametrize("run", ["induction"], indirect=True)
def test_induction_heads_read_a_previous_token_head_of_the_first_interval(run):
    """There the first occurrence always stands, so L0H0 learns to look one back there and nowhere else."""
    task, ensemble = run.info().task, run.ensemble()
    ends = ensemble.select(slice(None, None, len(ensemble) - 1))
    _, cache = ends.run(task.test_stream(run.info().training).next().tokens[:8], ["blocks.0.attn.hook_pattern"])
    back = cache["blocks.0.attn.hook_pattern"][:, :, 0].diagonal(offset=-1, dim1=-2, dim2=-1).mean(1)  # of queries 1 on
    assert back[0].mean() < 0.1
    assert back[1, : task.interval].mean() > 0.85
    assert back[1, task.interval :].mean() < 0.05
    pairs, scores = composition_scores(ends, "K")
    with_it = torch.tensor([earlier == "L0H0" for earlier, _ in pairs])
    assert scores[0].abs().max() < 0.02
    assert scores[1, with_it].min() > 0.2
    assert scores[1, ~with_it].max() < 0
    assert copying_scores(ends, task.answered_inputs)[0][1, 4:].min() > 0.99


@pytest.mark.parametrize("run", ["induction"], indirect=True)
def test_induction_is_the_golden_run(run):
    """Its configuration is the notebook's, whose logged losses count 85 positions where 84 are answers."""
    loss = run.metrics()["train_loss"]
    assert loss[0].item() * 85 / 84 == pytest.approx(5.070853039892095, rel=1e-5)
    assert loss[50].item() * 85 / 84 == pytest.approx(5.017400270183791, rel=1e-5)
    assert loss[750].item() > 4.3
    assert loss[1100].item() < 0.9


@pytest.mark.parametrize("run", ["induction"], indirect=True)
def test_some_tokens_of_a_copy_are_learnt_a_thousand_steps_after_the_others(run):
    losses = smooth(run.metrics()["train_loss_per_token"])
    late = losses[2000] > 0.7
    assert 2 <= late.sum() <= 8
    assert (losses[2600] < 0.6).all()


@pytest.mark.parametrize("run", ["induction-finite"], indirect=True)
def test_few_texts_are_memorised_before_the_model_generalises(run):
    """The loss on unseen texts climbs beyond that of a uniform guess while the training texts are learnt by heart."""
    metrics = run.metrics()
    train, test, steps = smooth(metrics["train_loss"]), smooth(metrics["test_loss"]), metrics["test_step"]
    peak = int(test.argmax())
    assert 1000 < steps[peak] < 1500
    assert test[peak] > 5.9
    assert train[steps[peak]] < 2.5
    assert metrics["test_accuracy"][peak] < 0.1
    assert metrics["accuracy"][steps[peak] :][:20].mean() > 0.4
    assert test[steps == 1800] > 5
    assert test[steps == 2350] < 1
    assert metrics["test_accuracy"][-1] > 0.85
    assert len(metrics["train_loss"]) > 2300 + 1000


@pytest.mark.parametrize("run", ["modular-addition"], indirect=True)
def test_modular_addition_is_memorised_and_generalises_thousands_of_steps_later(run):
    metrics = run.metrics()
    train, accuracy = metrics["train_loss"], metrics["test_accuracy"][:, 0]
    steps = metrics["test_step"]
    assert (train[500:] < 0.01).all()
    assert accuracy[steps == 4000].item() < 0.2
    assert metrics["test_loss"][steps == 1500].item() > 20
    assert accuracy[steps == 7000].item() > 0.99
    assert metrics["test_loss"][-1] < 0.001


@pytest.mark.parametrize("run", ["modular-addition"], indirect=True)
def test_modular_addition_turns_to_four_frequencies_long_before_unseen_pairs_are_right(run):
    """The loss by the key frequencies alone falls while the loss on unseen pairs still climbs."""
    info, ensemble = run.info(), run.ensemble()
    task, cycle, steps = info.task, info.task.cycle, torch.tensor(ensemble.steps)
    norms = weight_norms(ensemble, cycle)
    keys = key_frequencies(norms_by_frequency(norms["W_E"])[-1])
    assert keys == (4, 5, 12, 21)
    sparsity = gini(norms_by_frequency(norms["W_out W_U"]))
    assert sparsity[0] < 0.1
    assert sparsity[-1] > 0.75

    grid, guess = cycle.grids["answer"], math.log(cycle.n)
    found = progress_measures(ensemble, cycle, grid, task.are_in_training_data(grid.batch, info.training), keys)
    metrics = run.metrics()
    shown = torch.isin(metrics["test_step"], steps)
    torch.testing.assert_close(  # the other way to the same numbers, up to the float16 of the snapshots
        found.test[torch.isin(steps, metrics["test_step"])], metrics["test_loss"][shown], rtol=0.05, atol=0.01
    )

    half = int(steps[found.restricted <= guess / 2][0])
    lowest = int(found.excluded.argmin())
    doubled = int(steps[lowest:][found.excluded[lowest:] > 2 * found.excluded[lowest]][0])
    peak = int(found.test.argmax())
    crossed = int(steps[peak:][found.test[peak:] < guess][0])
    assert 750 < half < 900
    assert steps[lowest] < 600
    assert 1100 < doubled < 1400
    assert 1500 < steps[peak] < 1900
    assert 6000 < crossed < 6300
    # After the learnt pairs are memorised one falls and the other rises until unseen pairs are understood.
    between = (steps >= steps[lowest]) & (steps <= crossed)
    assert (found.restricted[between].diff() < 0).all()
    assert (found.excluded[between].diff() > 0).all()

    norms = component_norms(ensemble.select(slice(-1, None)), grid, cycle.n)
    assert top_terms(norms[0], basis(cycle.n)[0])[-1].cumulative_of_variance > 0.98
    frequency, share = neuron_frequencies(ensemble, grid, cycle.n)
    assert set(frequency.tolist()) == set(keys)
    assert share.median() > 0.9


def test_predict_answers_the_sum_of_the_readme(capsys):
    assert main(["predict", "addition", "12345+67890=", "--json", "--checkpoints", str(SHIPPED)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["answer"], answer["correct"]) == ("080235", True)
