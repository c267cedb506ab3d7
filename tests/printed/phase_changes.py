"""Phase changes: recorded losses and measures, and the classes of examples."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from explorer.film.panels.raster import Raster
from explorer.views.classes import DRAWN
from explorer.views.view import Note, Table
from tests.plain import measures, tasks
from tests.plain.model import cross_entropy
from tests.plain.run import PlainRun
from tests.printed.expected import Expected, Lines, Recorded, Rows, numbers_in
from tests.printed.losses_and_answers import SMOOTHING, Fall, bars, changes, of_run
from tests.printed.page import Page, checks, recomputes
from tests.printed.samples import sampled


@recomputes("losses", "losses")
def losses(page: Page, id: str) -> Expected:
    if page.options.show == "losses":
        return of_run(page.run, detail=True, beta=page.options.smoothing)
    return of_run(page.run, detail=False, beta=SMOOTHING)


@recomputes("losses", "probabilities")
def probabilities(page: Page, id: str) -> Expected:
    """With teacher forcing."""
    return bars(page, np.array(page.each(lambda w: measures.teacher_forced(page.cfg, w, page.prompt))), page.prompt)


@dataclass(frozen=True)
class Curve:
    """One loss on one kind of data."""

    name: str
    steps: np.ndarray
    values: np.ndarray
    changes: list[Fall]

    @property
    def steepest(self) -> float:
        """The steepest step of the deepest fall; infinite if there is none."""
        return min((one.steepest for one in self.changes if one.is_deepest), default=math.inf)


@lru_cache(maxsize=16)
def curves(run: PlainRun) -> list[Curve]:
    """Of each loss, sorted by the steepest step of its deepest fall."""
    found = []
    for kind in ("test", "train") if "test_loss" in run.metrics else ("train",):
        values = run.metrics[f"{kind}_loss_per_token"]
        steps = run.metrics["test_step"] if kind == "test" else np.arange(len(values))
        by_token = zip(tasks.loss_names(run.task), values.T, changes(run, values, steps), strict=True)
        for name, of_token, its in by_token:
            found.append(Curve(f"{name}, {kind}" if "test_loss" in run.metrics else name, steps, of_token, its))
    return sorted(found, key=lambda one: one.steepest)


@recomputes("losses", "seismograph")
def seismograph(page: Page, id: str) -> Expected:
    """The share of each loss that remains, at 1,500 steps at most."""
    found = curves(page.run)
    end = max(int(one.steps[-1]) for one in found)
    shown = np.unique(np.linspace(0, end, min(1500, end + 1)).round().astype(int))
    rows = []
    for one in found:
        beta = measures.beta_of_row(page.options.smoothing, one.steps)
        average = measures.smoothed_robustly(one.values, beta) / tasks.uniform_loss(page.run.task)
        rows.append(average[np.searchsorted(one.steps, shown, side="right") - 1])
    marks = [one.steepest if math.isfinite(one.steepest) else np.nan for one in found]
    return Rows([one.name for one in found], shown, np.array(rows), range(len(shown)), marks, numbers=[1, 0])


@checks("losses", Table)
def table(page: Page, shown: Table) -> None:
    rows = [
        (one, fall) for one in curves(page.run) for fall in sorted(one.changes, key=lambda fall: not fall.is_deepest)
    ]
    name, what, begins, steepest, ends, width, depth, share, before, after = map(list, shown.columns.values())
    assert name == [one.name for one, _ in rows]
    falls = [fall for _, fall in rows]
    words = {True: "fall", False: "rise"}
    assert what == ["deepest fall" if fall.is_deepest else words[fall.before > fall.after] for fall in falls]
    assert begins == [fall.begins for fall in falls]
    assert steepest == [fall.steepest for fall in falls]
    assert ends == [fall.ends for fall in falls]
    assert width == [fall.ends - fall.begins for fall in falls]
    depths = np.array([abs(fall.before - fall.after) for fall in falls])
    pairs = ((before, [fall.before for fall in falls]), (after, [fall.after for fall in falls]), (depth, depths))
    for column, expected in (*pairs, (share, depths / tasks.uniform_loss(page.run.task))):
        np.testing.assert_allclose(column, expected, rtol=1e-6, atol=1e-12)


@recomputes("losses", "accuracy", "attention_gradient")
def recorded_measures(page: Page, id: str) -> Expected:
    metrics, names = page.run.metrics, ["accuracy"] if id == "accuracy" else tasks.loss_names(page.run.task)
    finite, lines = "test_step" in metrics, {}
    for kind in ("train", "test") if finite else ("",):
        key = f"test_{id}" if kind == "test" else id
        if key not in metrics:
            continue
        steps = metrics["test_step"] if kind == "test" else np.arange(len(metrics["train_loss"]))
        beta = measures.beta_of_row(SMOOTHING, steps)
        averages = measures.smoothed_robustly(metrics[key].astype(np.float64), beta)
        for i, name in enumerate(names):
            lines[f"{name}, {kind}" if kind else name] = steps, metrics[key][:, i], averages[:, i]
    return Recorded(lines, {}, [], SMOOTHING)


@recomputes("losses", "loss-by-kind", "right-by-kind")
def by_class(page: Page, id: str) -> Expected:
    """On the first unseen examples of each class, which the task draws, as many as the title says."""
    task, training, n = page.subject.task, page.subject.info.training, page.n_examples(id)
    classes = task.classes(DRAWN, training.seed + 1)[page.options.classes or next(iter(task.classes(1, 0)))]
    tokens, positions, targets = (
        part.numpy() for part in (classes.batch.tokens, classes.batch.positions, classes.batch.targets)
    )
    trained_on = task.training_set(training)
    end = positions.min() + 1
    seen = set() if trained_on is None else {tuple(row) for row in trained_on.tokens[:, :end].tolist()}
    unseen = np.array([tuple(row[:end]) not in seen for row in tokens.tolist()])
    rows = [np.flatnonzero(unseen & (classes.labels.numpy() == kind))[:n] for kind in range(len(classes.names))]
    values = []
    for found in page.activations(tuple(part[np.concatenate(rows)] for part in (tokens, positions, targets))):
        at, right = (part[np.concatenate(rows)] for part in (positions, targets))
        logits = found["logits"][np.arange(len(at))[:, None], at]
        by_id = {
            "loss-by-kind": cross_entropy(logits, right).mean(1),
            "right-by-kind": (logits.argmax(-1) == right).all(1),
        }
        values.append(by_id[id].reshape(len(rows), n).T)
    names = [f"{name}: {about}" if about else name for name, about in zip(classes.names, classes.about, strict=True)]
    return sampled(page, names, np.array(values), n)


@checks("losses", Note)
def caption(page: Page, note: Note) -> None:
    """How long a spike is, what is not resolved of the losses in the table, and of those that are drawn."""
    beta, steps = page.options.smoothing, {id(one.steps): one.steps for one in curves(page.run)}
    by_kind = [steps[id(one.steps)] for one in sorted(curves(page.run), key=lambda one: one.name.endswith("train"))]
    kinds = list({id(of): of for of in by_kind}.values())
    every = [measures.spacing(of) for of in kinds]
    resolved = [max(1, round(measures.drawn_out(0.7) * rows)) for rows in every]
    drawn = [
        round(measures.drawn_out(measures.beta_of_row(beta, of)) * rows) for of, rows in zip(kinds, every, strict=True)
    ]
    expected = [60, *(resolved[:1] if len(set(resolved)) == 1 else resolved)]
    if beta:
        expected += [beta, *(drawn[:1] if len(set(drawn)) == 1 else drawn)]
    assert [float(number.replace(",", "")) for number in numbers_in(note.text)] == expected


@recomputes("losses", "training-examples")
def training_examples(page: Page, id: str) -> Expected:
    """Each row is a training example with the text that stands beside it, whose losses are recomputed. The step from
    which it is learnt follows from the losses that the row shows at all snapshots; rows are sorted by it."""
    (panel,) = (panel for panel in page.film.panels if panel.id == id)
    assert isinstance(panel, Raster)
    level, n = tasks.uniform_loss(page.run.task) / 2, len(training_losses(page))
    texts, names = {}, tasks.vocabulary(page.run.task)
    between = "" if max(map(len, names)) == 1 else " "
    for row, losses in zip(training_set(page)[0], training_losses(page), strict=True):
        text = between.join(names[token] for token in row)
        texts.setdefault(text if len(text) <= 18 else f"{text[:17]}…", []).append(losses)
    values, marks = [], []
    for label, row in zip(panel.rows, panel.values, strict=True):
        likely = np.array(texts[label])  # several, where texts are cut
        values.append(likely[np.abs(likely - row[page.frames]).sum(1).argmin()])
        above = np.flatnonzero(row > level)
        since = above[-1] + 1 if len(above) else 0
        marks.append(page.film.steps[since] if since < len(row) else np.nan)
    assert np.nan_to_num(marks, nan=np.inf).tolist() == sorted(np.nan_to_num(marks, nan=np.inf))
    every = math.ceil(n / 600)
    assert len(panel.rows) == math.ceil(n / every)
    numbers = [n if every == 1 else every, level]
    # A loss that is all but 0 is a difference of float32 logits that are much larger.
    return Rows(panel.rows, page.film.steps, np.array(values), page.frames, marks, numbers=numbers, rtol=1e-4)


@recomputes("losses", "share-learnt")
def share_learnt(page: Page, id: str) -> Expected:
    losses, level = training_losses(page), tasks.uniform_loss(page.run.task) / 2
    return Lines(page.film.steps, {"share": (losses <= level).mean(0)}, numbers=[len(losses), level])


def training_set(page: Page) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, positions and targets, which the task draws."""
    batch = page.subject.task.training_set(page.subject.info.training)
    assert batch is not None
    return batch.tokens.numpy(), batch.positions.numpy(), batch.targets.numpy()


def training_losses(page: Page) -> np.ndarray:
    """Of each training example at the three snapshots, (example frame)."""
    sample = training_set(page)
    rows = np.arange(len(sample[0]))[:, None]
    found = [one["logits"][rows, sample[1]] for one in page.activations(sample)]
    return np.array([cross_entropy(logits, sample[2]).mean(1) for logits in found]).T
