"""How long an example takes at every snapshot, and each page's first film.

    python -m benchmarks.films [RUN ...]

Both ways of asking all snapshots, the stack and one snapshot after another, run in turn in one process.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch

from explorer.analysis.answers import greedy_answers
from explorer.film.film import Film
from explorer.runs import Run, Runs
from explorer.views import (
    activations,
    answers,
    circuits,
    components,
    cut,
    fourier,
    heads,
    losses,
    overview,
    weights,
)
from explorer.views.activation_points import Points
from explorer.views.classes import class_films, has_classes
from explorer.views.subject import Subject

REPEATS = 7


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def first(films: Iterator[tuple[Film, float]]) -> Film:
    """The film on the first part of a sample that grows."""
    return next(films)[0]


def main() -> None:
    for name in sys.argv[1:] or ["addition"]:
        measure(Runs("checkpoints").open(name))


def measure(run: Run) -> None:
    reading = seconds(lambda: Subject.load(run))
    subject = Subject.load(run)
    ensemble, task = subject.ensemble, subject.task
    text = next(iter(task.examples.values()))
    example = task.encode(text)
    print(f"{run.name}: {len(ensemble)} snapshots, {torch.get_num_threads()} threads; opened in {reading:.2f} s\n")

    def stacked() -> object:
        return greedy_answers(ensemble, example)

    def one_by_one() -> object:
        return [greedy_answers(ensemble.select(slice(i, i + 1)), example) for i in range(len(ensemble))]

    times: dict[str, list[float]] = {"stacked": [], "one by one": []}
    stacked()
    for _ in range(REPEATS):
        times["stacked"].append(seconds(stacked))
        times["one by one"].append(seconds(one_by_one))
    medians = {way: statistics.median(measured) for way, measured in times.items()}
    print(f"{text} answered by every snapshot, median of {REPEATS}")
    for way, median in medians.items():
        print(f"  {way:<12} {1000 * median:7.1f} ms")
    print(f"  ratio        {medians['one by one'] / medians['stacked']:7.1f}\n")

    views: dict[str, Callable[[], Film]] = {
        "Overview": lambda: overview.film(subject, text),
        "Losses": lambda: losses.film(subject, text),
        "Heads, one example": lambda: heads.example_film(subject, text, "pattern"),
        "Heads, mean of a batch": lambda: heads.mean_film(subject, "pattern"),
        "Heads, head scores, first part": lambda: first(
            heads.scores_films(subject, next(iter(heads.datasets(subject))))
        ),
        "Activations, values of the heads": lambda: activations.film(
            subject, text, "blocks.0.attn.hook_v", "activation"
        ),
        "Activations, gradient at the pattern": lambda: activations.film(
            subject, text, "blocks.0.attn.hook_pattern", "gradient"
        ),
        "Activations, scatter": lambda: activations.points_film(
            subject, Points("blocks.0.hook_resid_post", False, (), (), "PC1", "PC2", "position")
        ),
        "Components": lambda: components.film(subject, text, 0),
        "Circuits, OV": lambda: circuits.film(subject, "ov", 0, text),
        "Weights": lambda: weights.film(subject),
        "Cut it, a head ablated, first part": lambda: first(cut.ablation_films(subject, text, ("L0H0",), "mean")),
        "Cut it, each ablated, first part": lambda: first(cut.ablate_each_films(subject, "mean")),
        "Try": lambda: answers.film(subject, text),
    }
    for what in fourier.available(subject.info):
        views[f"Fourier, {what}"] = lambda what=what: fourier.film(subject, what, fourier.answers(subject)[0])
    if has_classes(subject):
        views["Losses, by class, first part"] = lambda: first(class_films(subject))
    print(f"Film of each page, built and packed, median of {REPEATS}")
    for page, build in views.items():
        size = len(build().packed) / 1e6
        median = statistics.median(seconds(lambda build=build: build().packed) for _ in range(REPEATS))
        print(f"  {page:<42} {1000 * median:7.1f} ms {size:6.2f} MB")
    print()


if __name__ == "__main__":
    main()
