"""Numbers modulo n: weights and activations in the Fourier basis, at every snapshot."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from explorer.analysis import fourier
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.columns import Columns
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.panel import Panel
from explorer.film.panels.raster import Raster
from explorer.film.panels.scatter import Scatter
from explorer.film.panels.text import Text
from explorer.scene import choice, number, switch
from explorer.tasks.data import Cycle
from explorer.views import panels
from explorer.views.subject import Subject
from explorer.views.view import Choices, Figures, Item, View, same_labels

MOST_TERMS = 12  # in the table
MOST_PAIRS = 200_000  # of all snapshots together; where there are more, every second or third snapshot is looked at
MOST_CIRCLES = 3


@dataclass(frozen=True)
class Options:
    show: str = choice("Show", lambda context: possible(context.subject))
    answer: str = choice(
        "Answer",
        lambda context: same_labels(answers(context.subject)),
        when=lambda context: context.chosen["show"] in BY_ANSWER,
    )
    neuron: int = number(
        "Neuron",
        0,
        lambda context: max(n_neurons(context.subject) - 1, 0),
        when=lambda context: context.chosen["show"] in BY_NEURON and n_neurons(context.subject) > 0,
    )
    basis: bool = switch("The basis, and its Gram matrix", place="end")


class Fourier(View[Options]):
    name, title, icon, place = "fourier", "Fourier", "waves", (1, 4)
    options_type = Options

    def unavailable(self, subject: Subject, example: str, options: Options) -> str:
        if possible(subject):
            return ""
        return (
            "The tokens of this run are not numbers modulo n, so there is no Fourier basis for them. Choose a run of "
            "addition or modular addition."
        )

    def uses_example(self, options: Options) -> bool:
        return False

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        return film(subject, options.show, options.answer, options.neuron)

    def below(self, subject: Subject, example: str, options: Options) -> Sequence[Item]:
        return [Choices(["basis"]), *([Figures(basis_panels(subject))] if options.basis else [])]


def film(subject: Subject, what: str, answer: str, neuron: int = 0) -> Film:
    """One of `WHAT`, in a task whose tokens are numbers modulo n.

    Args:
        answer: which answer is looked at as a function of two numbers.
        neuron: of the last block, where one is looked at; the last where there are not so many.

    Raises:
        UserError: the task's tokens are not numbers modulo n, or the model has no such thing.
    """
    cycle = subject.task.cycle
    if cycle is None:
        raise UserError(f"The tokens of {subject.task.title} are not numbers modulo n; choose another run.")
    answer = answer if answer in cycle.grids else next(iter(cycle.grids))
    if what in BY_ANSWER:
        subject = subject.thinned(max(2, MOST_PAIRS // cycle.n**2))
    return Film(subject.steps, [panels.timeline(subject), *WHAT[what].panels(subject, cycle, answer, neuron)])


def _frequencies(subject: Subject, cycle: Cycle, answer: str, neuron: int) -> list[Panel]:
    """How much of each matrix lies at which frequency."""
    found: list[Panel] = []
    steps, sizes = np.array(subject.steps), {}
    for name, norms in fourier.weight_norms(subject.ensemble, cycle).items():
        by_frequency = fourier.norms_by_frequency(norms)  # (snapshot frequency)
        sizes[name] = by_frequency
        frequencies = [str(k) for k in range(1, by_frequency.shape[1] + 1)]
        keys = fourier.key_frequencies(by_frequency[-1])
        title, plain = f"{name}: norm at each frequency", name.replace(" ", "-")
        found.append(
            Columns(
                f"frequencies-{plain}",
                f"{title}; bold: key frequencies of the final model",
                frequencies,
                [name],
                by_frequency[:, None].numpy(),
                unit="norm",
                category_axis="frequency",
                marked=[k - 1 for k in keys],
                span=6,
                height=240,
            )
        )
        found.append(
            Raster(
                f"frequencies-over-training-{plain}",
                f"{title}, over training",
                frequencies,
                steps,
                by_frequency.T.numpy(),
                low=0.0,
                high=float(by_frequency.max()),
                unit="norm",
                span=6,
            )
        )
    measures = {
        "gini": ("Gini coefficient over frequencies: 0 where all are alike", fourier.gini),
        "participation": (
            "Inverse participation ratio: 1 where one frequency has everything",
            fourier.inverse_participation_ratio,
        ),
    }
    for id, (title, measure) in measures.items():
        curves = {name: measure(by_frequency) for name, by_frequency in sizes.items()}
        found.append(panels.over_snapshots(subject, id, title, curves, unit="", span=6))
    return found


def _circles(subject: Subject, cycle: Cycle, answer: str, neuron: int) -> list[Panel]:
    """The embeddings of all numbers, seen along the directions of the strongest frequencies of the final model."""
    norms = fourier.norms_by_frequency(fourier.weight_norms(subject.ensemble, cycle)["W_E"])
    waves = norms[-1][: (cycle.n - 1) // 2]  # the alternating one is no circle
    strongest = sorted(1 + waves.topk(min(MOST_CIRCLES, len(waves))).indices)
    found: list[Panel] = []
    for frequency in map(int, strongest):
        places = fourier.frequency_plane(subject.ensemble, cycle, frequency)  # (snapshot number 2)
        around = sorted(range(cycle.n), key=lambda number: (number * frequency % cycle.n, number))
        labels = [subject.task.tokens[number] for number in around]
        x, y = (places[:, around, axis].numpy() for axis in (0, 1))
        title = f"Embeddings at frequency {frequency}"
        found.append(
            Scatter(
                f"circle-{frequency}",
                title,
                labels,
                x,
                y,
                f"cos {frequency}",
                f"sin {frequency}",
                ring=True,
                span=12 // len(strongest),
            )
        )
    return found


def _logits(subject: Subject, cycle: Cycle, answer: str, neuron: int) -> list[Panel]:
    return _two_inputs(subject, cycle, answer, "logits")


def _neurons(subject: Subject, cycle: Cycle, answer: str, neuron: int) -> list[Panel]:
    """Besides the terms of all neurons together, how many neurons of the final model go with which frequency."""
    frequencies, shares = fourier.neuron_frequencies(subject.ensemble, cycle.grids[answer], cycle.n)
    lines = [f"{'frequency':<12}{'neurons':>8}{'variance it explains, median':>32}"]
    for frequency in frequencies.unique().tolist():
        own = shares[frequencies == frequency]
        lines.append(f"{frequency or 'none':<12}{len(own):>8}{own.median():>32.0%}")
    title = f"Neurons{_of(cycle, answer)} in the final model, by the frequency that explains most of their variance"
    counted = Text("neurons-by-frequency", title, ["\n".join(lines)])
    return [*_two_inputs(subject, cycle, answer, "neurons"), counted]


def _two_inputs(subject: Subject, cycle: Cycle, answer: str, kind: str) -> list[Panel]:
    """Logits or neurons as functions of both numbers, in products of waves."""
    names, _ = fourier.basis(cycle.n)
    energy = fourier.variance_explained(subject.ensemble, cycle.grids[answer], cycle.n, kind)
    title = f"{kind.capitalize()}{_of(cycle, answer)}: share of variance in each product of waves"
    return [
        panels.signed_maps("terms", title, [""], energy[:, None], names, names, "of x", "of y", span=7),
        Text("largest-terms", f"Largest terms of {kind}", [_table(one, names) for one in energy], span=5),
    ]


def _of(cycle: Cycle, answer: str) -> str:
    """What a title adds where there are several answers."""
    return f" of {answer}" if len(cycle.grids) > 1 else ""


def _over_both(subject: Subject, cycle: Cycle, answer: str, neuron: int) -> list[Panel]:
    """Loss, and one neuron, for each pair of numbers."""
    grid, ensemble, cfg = cycle.grids[answer], subject.ensemble, subject.info.model
    numbers = subject.task.tokens[: cycle.n]

    def maps(id: str, title: str, values: torch.Tensor, most: float | None = None) -> Panel:
        return panels.signed_maps(id, title, [""], values[:, None], numbers, numbers, "x", "y", span=6, most=most)

    neuron = None if cfg.attn_only else min(neuron, cfg.d_mlp - 1)
    losses, values = fourier.loss_and_neuron_grids(ensemble, grid, cycle.n, neuron)
    guess = math.log(cfg.d_vocab_out)
    found = [
        maps("pair-losses", f"Loss{_of(cycle, answer)} for each pair; dark: a uniform guess or worse", losses, guess)
    ]
    if values is not None:
        silent = "" if values.any() else ", which is silent here in every snapshot"
        found.append(maps("neuron", f"Neuron {neuron} of the last block{_of(cycle, answer)}{silent}", values))
    return found


def _table(energy: torch.Tensor, names: tuple[str, ...]) -> str:
    lines = [f"{'x':<10}{'y':<10}{'share':>8}{'together':>10}"]
    for x, y, share, together in fourier.top_terms(energy, names, MOST_TERMS):
        lines.append(f"{x:<10}{y:<10}{share:>8.1%}{together:>10.1%}")
    return "\n".join(lines)


def _progress(subject: Subject, cycle: Cycle, answer: str, neuron: int) -> list[Panel]:
    """What the key frequencies alone achieve, and what is achieved without them."""
    grid = cycle.grids[answer]
    norms = fourier.norms_by_frequency(fourier.weight_norms(subject.ensemble, cycle)["W_E"])
    keys = fourier.key_frequencies(norms[-1])
    learnt = subject.task.learnt(grid.batch, subject.info.training)
    found = fourier.progress_measures(subject.ensemble, cycle, grid, learnt, keys)
    apart = learnt is not None and 0 < learnt.sum() < len(learnt)
    losses = {"train": found.train, "test": found.test} if apart else {"all pairs": found.all_pairs}
    losses |= {"restricted": found.restricted, "excluded": found.excluded}
    shown = ", ".join(map(str, keys)) + (" (which are all)" if len(keys) == cycle.n // 2 else "")
    gini = {"W_E": fourier.gini(norms)}
    return [
        panels.over_snapshots(
            subject,
            "progress",
            f"Loss{_of(cycle, answer)} with the key frequencies {shown} alone (restricted), and without (excluded)",
            losses,
            unit="nats",
            height=360,
            log=True,
        ),
        panels.over_snapshots(subject, "gini", "Gini coefficient of the frequencies of W_E", gini, unit="", height=200),
    ]


@dataclass(frozen=True)
class Shown:
    """One thing that can be shown in the Fourier basis."""

    label: str
    panels: Callable[[Subject, Cycle, str, int], list[Panel]]


WHAT: Mapping[str, Shown] = {
    "frequencies": Shown("frequencies", _frequencies),
    "circles": Shown("circles", _circles),
    "logits": Shown("logits of two numbers", _logits),
    "neurons": Shown("neurons of two numbers", _neurons),
    "pairs": Shown("over both numbers", _over_both),
    "progress": Shown("progress", _progress),
}
BY_ANSWER = ("logits", "neurons", "pairs", "progress")
BY_NEURON = ("pairs",)


def possible(subject: Subject) -> dict[str, str]:
    """What of `WHAT` this run has, by label; nothing where its tokens are not numbers modulo n."""
    cycle, cfg = subject.task.cycle, subject.info.model
    if cycle is None or cfg.architecture == "table":
        return {}
    sums = any(grid.sign for grid in cycle.grids.values())
    lacking = {"neurons": cfg.attn_only, "progress": not sums}
    return {what: shown.label for what, shown in WHAT.items() if not lacking.get(what)}


def answers(subject: Subject) -> tuple[str, ...]:
    """The answers that can be looked at as functions of two numbers."""
    cycle = subject.task.cycle
    return tuple(cycle.grids) if cycle else ()


def n_neurons(subject: Subject) -> int:
    """How many neurons a block has; 0 where there is no MLP."""
    return 0 if subject.info.model.attn_only else subject.info.model.d_mlp


def basis_panels(subject: Subject) -> list[Heatmaps]:
    """The Fourier basis of the run's numbers, and its Gram matrix, each a map with one frame."""
    cycle = subject.task.cycle
    if cycle is None:
        return []
    names, basis = fourier.basis(cycle.n)
    numbers = subject.task.tokens[: cycle.n]

    def one(id: str, title: str, values: torch.Tensor, columns: Sequence[str], column_axis: str) -> Heatmaps:
        return panels.signed_maps(id, title, [""], values[None, None], names, columns, "component", column_axis)

    return [
        one("basis", "Fourier basis", basis, numbers, "number"),
        one("gram", "Its Gram matrix", basis @ basis.T, names, "component"),
    ]
