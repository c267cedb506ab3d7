"""Panels that several views share: losses, answers, probabilities, and attention patterns on the example."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from explorer.analysis import phases
from explorer.views.view import Link, Links, Table
from tests.plain import measures, tasks
from tests.plain.run import PlainRun
from tests.plain.tasks import Prompt
from tests.printed.expected import (
    Answers,
    Expected,
    Lettering,
    Maps,
    Probabilities,
    Recorded,
    Rows,
    numbers_in,
    same,
)
from tests.printed.page import Page, checks, recomputes

SMOOTHING = 0.9  # per step, where the page has no choice of it


@lru_cache(maxsize=64)
def recorded(run: PlainRun, detail: bool, beta: float) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The curves of losses: label -> steps, values, smoothed values."""
    metrics, names = run.metrics, tasks.loss_names(run.task)
    finite, alone = "test_loss" in metrics, len(names) == 1
    train = np.arange(len(metrics["train_loss"]))
    curves = {("" if alone else "all, ") + "train" if finite else "all": (train, metrics["train_loss"])}
    if finite:
        curves["test" if alone else "all, test"] = metrics["test_step"], metrics["test_loss"]
    if detail and run.task["name"] == "induction":  # the notebook's own average
        curves["all, average 0.99"] = train, measures.smoothed(metrics["train_loss"], 0.99, 5.2)
    for i, name in enumerate(names if not alone else []):
        if finite:
            curves[name] = metrics["test_step"], metrics["test_loss_per_token"][:, i]
        if detail or not finite:
            curves[f"{name}, train" if finite else name] = train, metrics["train_loss_per_token"][:, i]
    averages = {}
    for steps in {id(steps): steps for steps, _ in curves.values()}.values():
        labels = [label for label, (at, _) in curves.items() if at is steps]
        columns = np.column_stack([curves[label][1].astype(np.float64) for label in labels])
        smoothed = measures.smoothed_robustly(columns, measures.beta_of_row(beta, steps))
        averages |= dict(zip(labels, smoothed.T, strict=True))
    return {label: (steps, values, averages[label]) for label, (steps, values) in curves.items()}


@recomputes("(?!losses).*", "losses")
def losses(page: Page, id: str) -> Expected:
    return of_run(page.run, detail=False, beta=SMOOTHING)


@recomputes("compare", "losses-beside")
def losses_beside(page: Page, id: str) -> Expected:
    assert page.second
    return of_run(page.second[0], detail=False, beta=SMOOTHING)


@lru_cache(maxsize=64)
def of_run(run: PlainRun, detail: bool, beta: float) -> Expected:
    return Recorded(recorded(run, detail, beta), tasks.references(run.task), flags(run), beta)


@dataclass(frozen=True)
class Fall:
    """A change of one loss, fall or rise: its steps, and its losses in nats. Which steps it has is the explorer's to
    find, and is not searched for again; what is told of them is recomputed."""

    begins: int
    steepest: int
    ends: int
    before: float
    after: float
    is_deepest: bool


def changes(run: PlainRun, values: np.ndarray, steps: np.ndarray) -> list[list[Fall]]:
    """The changes of each of the losses (row token), in the order of training."""
    uniform = torch.full((values.shape[1],), tasks.uniform_loss(run.task))
    searched = phases.changes(torch.tensor(values), uniform, 0 * uniform, measures.spacing(steps))
    found = []
    for curve, of_token in zip(measures.without_noise(values, steps).T, searched, strict=True):
        depths = [float(curve[one.begins] - curve[one.ends]) for one in of_token]
        deepest = int(np.argmax(depths)) if max(depths, default=0) > 0 else None
        found.append(
            [
                Fall(
                    int(steps[one.begins]),
                    int(steps[one.steepest]),
                    int(steps[one.ends]),
                    float(curve[one.begins]),
                    float(curve[one.ends]),
                    place == deepest,
                )
                for place, one in enumerate(of_token)
            ]
        )
    return found


@lru_cache(maxsize=16)
def flags(run: PlainRun) -> list[tuple[str, int]]:
    """Where the deepest fall of the mean loss of each group is steepest, on unseen data if there are any."""
    kind = "test" if "test_loss" in run.metrics else "train"
    values = run.metrics[f"{kind}_loss_per_token"].astype(np.float64)
    steps = run.metrics["test_step"] if kind == "test" else np.arange(len(values))
    found = []
    for group, members in tasks.groups(run.task).items():
        (of_group,) = changes(run, np.nanmean(values[:, members], 1, keepdims=True), steps)
        for fall in of_group:
            if fall.is_deepest:
                label = f"{group}: falls by {fall.before - fall.after:.1f} nats, steepest"
                found.append((label, fall.steepest))
    return found


# --- Answers ---


def strip(run: PlainRun, prompt: Prompt, found: list[tuple[list[int], np.ndarray]]) -> Answers:
    """A strip of tokens with the answers by greedy decoding at three snapshots."""
    after, places = prompt.n_prompt, []
    for position in prompt.positions:
        if position + 1 < prompt.n_prompt:
            places.append(position + 1)
        else:
            places.append(after)
            after += 1
    return Answers(
        prompt=tasks.written_prompt(run.task, prompt),
        said=[said for said, _ in found],
        probabilities=np.array([probabilities.max(1) for _, probabilities in found]),
        targets=list(prompt.targets),
        places=places,
        vocabulary=tasks.answer_tokens(run.task),
    )


def greedy(page: Page) -> list[tuple[list[int], np.ndarray]]:
    return page.each(lambda w: measures.greedy(page.cfg, w, page.prompt))


@recomputes("answers|compare|cut", "answers")
def answers(page: Page, id: str) -> Expected:
    return strip(page.run, page.prompt, greedy(page))


@recomputes("answers", "probabilities")
def probabilities(page: Page, id: str) -> Expected:
    prompt, values = page.prompt, np.array([probabilities for _, probabilities in greedy(page)])
    return bars(page, values, prompt)


def bars(page: Page, values: np.ndarray, prompt: Prompt) -> Probabilities:
    """Bars of the probabilities (frame answer d_vocab_out)."""
    panel = next(panel for panel in page.film.panels if panel.id == "probabilities")
    shown, n = len(panel.groups), len(prompt.places)  # type: ignore[attr-defined]
    said = () if shown == n else (shown, n)
    return Probabilities(prompt.places, values, list(prompt.targets), tasks.answer_tokens(page.run.task), numbers=said)


@recomputes("answers", "working")
def working(page: Page, id: str) -> Expected:
    return Lettering([tasks.written(page.run.task, page.example, said) for said, _ in greedy(page)])


@recomputes("answers", "ribbon(-[0-9])?")
def ribbon(page: Page, id: str) -> Expected:
    """The text of a variation is typed, no result; what the model makes of it is recomputed."""
    task, place = page.subject.task, int(id.partition("-")[2] or 0)
    example = task.encode(page.example)
    label, text = [(task.described(example), page.example), *task.siblings(example).items()][place]
    prompt = tasks.prompt(page.run.task, text)
    typed = text if len(text) <= 24 else f"{text[:23]}…"
    numbers = [float(number) for number in numbers_in(f"{label}: {typed}", [page.example, page.brief])]
    lives = page.every(lambda w: measures.greedy(page.cfg, w, prompt))
    wrong = np.array([said for said, _ in lives]) != prompt.targets  # (snapshot answer)
    marks = []
    for of_answer in wrong.T:
        since = np.flatnonzero(of_answer)[-1] + 1 if of_answer.any() else 0
        marks.append(page.run.steps[since] if since < len(of_answer) else np.nan)
    answers = np.arange(len(prompt.targets))
    values = np.array([lives[frame][1][answers, prompt.targets] for frame in page.frames]).T
    return Rows(prompt.places, page.run.steps, values, page.frames, marks, numbers=numbers)


@checks("answers", Table)
def when_learnt(page: Page, table: Table) -> None:
    """The step from which each answer is right at every snapshot, and its final probability."""
    prompt, steps = page.prompt, page.run.steps
    said = np.array([said for said, _ in page.every(lambda w: measures.greedy(page.cfg, w, prompt))])
    _, final = measures.greedy(page.cfg, page.last, prompt)
    place, right, since, probability = table.columns.values()
    assert list(place) == prompt.places
    assert list(right) == [tasks.answer_tokens(page.run.task)[target] for target in prompt.targets]
    for i, text in enumerate(since):
        wrong = [frame for frame in range(len(steps)) if said[frame, i] != prompt.targets[i]]
        first = wrong[-1] + 1 if wrong else 0
        assert text == ("not yet" if first == len(steps) else f"step {steps[first]:,}")
    same(np.array([probability]), final[np.arange(len(prompt.targets)), prompt.targets][None])


@checks("answers", Links)
def variations(page: Page, links: Links) -> None:
    """Labels of links hold texts to type, which are no results."""
    for link in links.links:
        assert isinstance(link, Link)
        assert link.example
        assert tasks.prompt(page.run.task, link.example).n_prompt == page.prompt.n_prompt


# --- Attention patterns on the example ---


def head_names(cfg: dict) -> list[str]:
    return [f"L{layer}H{head}" for layer in range(cfg["n_layers"]) for head in range(cfg["n_heads"])]


def no_future(values: np.ndarray) -> np.ndarray:
    """(... query key) with nan where the key is later than the query."""
    n = values.shape[-1]
    return np.where(np.arange(n) > np.arange(n)[:, None], np.nan, values)


def labels(run: PlainRun, prompt: Prompt) -> list[str]:
    return [tasks.vocabulary(run.task)[token] for token in prompt.tokens]


@recomputes("compare", "patterns")
def patterns(page: Page, id: str) -> Expected:
    found = page.activations(page.prompt_sample)
    values = np.array([no_future(measures.by_layer(page.cfg, one, "hook_pattern")[0]) for one in found])
    names = labels(page.run, page.prompt)
    return Maps(head_names(page.cfg), values, names, names)
