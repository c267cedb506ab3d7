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
from explorer.options import choice, number, switch
from explorer.tasks.data import Cycle
from explorer.views import panels
from explorer.views.subject import Subject
from explorer.views.view import Choices, Figures, Item, View, same_labels

MAX_TERMS = 12  # in the table
MAX_PAIRS = 200_000  # over all snapshots together; beyond that, fewer snapshots are shown
MAX_CIRCLES = 3
NOT_CYCLIC = (
    "The tokens of this run are not numbers modulo n, so there is no Fourier basis for them. Choose a run of addition "
    "or modular addition."
)


@dataclass(frozen=True)
class Options:
    show: str = choice("Show", lambda context: available(context.subject))
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
    basis: bool = switch("Show the Fourier basis and its Gram matrix", place="end")


class Fourier(View[Options]):
    name, title, icon, place = "fourier", "Fourier", "waves", (1, 4)
    options_type = Options

    def unavailable(self, subject: Subject, example: str, options: Options) -> str:
        return "" if available(subject) else NOT_CYCLIC

    def uses_example(self, options: Options) -> bool:
        return False

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        return film(subject, options.show, options.answer, options.neuron)

    def below(self, subject: Subject, example: str, options: Options) -> Sequence[Item]:
        return [Choices(["basis"]), *([Figures(basis_panels(subject))] if options.basis else [])]


def film(subject: Subject, measure: str, answer: str, neuron: int = 0) -> Film:
    """The panels of one measure, for a task whose tokens are numbers modulo n.

    Args:
        subject: the run.
        measure: one of `MEASURES`.
        answer: the name of the answer that is analysed as a function of both numbers; if the task has no such answer,
            its first one is.
        neuron: the index of a neuron of the last block; clipped to the last.

    Raises:
        UserError: the task's tokens are not numbers modulo n, or the model lacks what is measured.
    """
    cycle = subject.task.cycle
    if cycle is None:
        raise UserError(NOT_CYCLIC)
    answer = answer if answer in cycle.grids else next(iter(cycle.grids))
    if measure in BY_ANSWER:
        subject = subject.thinned(max(2, MAX_PAIRS // cycle.n**2))
    return Film(subject.steps, [panels.timeline(subject), *MEASURES[measure].panels(subject, cycle, answer, neuron)])


def _frequencies(subject: Subject, cycle: Cycle, answer: str, neuron: int) -> list[Panel]:
    """The norm of each weight matrix at each frequency."""
    shown: list[Panel] = []
    steps, by_matrix = np.array(subject.steps), {}
    for name, norms in fourier.weight_norms(subject.ensemble, cycle).items():
        by_frequency = fourier.norms_by_frequency(norms)  # (snapshot frequency)
        by_matrix[name] = by_frequency
        frequencies = [str(k) for k in range(1, by_frequency.shape[1] + 1)]
        keys = fourier.key_frequencies(by_frequency[-1])
        title, id = f"{name}: norm at each frequency", name.replace(" ", "-")
        shown.append(
            Columns(
                f"frequencies-{id}",
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
        shown.append(
            Raster(
                f"frequencies-over-training-{id}",
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
    sparsities = {
        "gini": ("Gini coefficient over frequencies: 0 if all are equal", fourier.gini),
        "participation": (
            "Inverse participation ratio: 1 if only one frequency is present",
            fourier.inverse_participation_ratio,
        ),
    }
    for id, (title, sparsity) in sparsities.items():
        curves = {name: sparsity(by_frequency) for name, by_frequency in by_matrix.items()}
        shown.append(panels.over_snapshots(subject, id, title, curves, unit="", span=6))
    return shown


def _circles(subject: Subject, cycle: Cycle, answer: str, neuron: int) -> list[Panel]:
    """The embeddings of the numbers, projected on the planes of the final model's strongest frequencies."""
    norms = fourier.norms_by_frequency(fourier.weight_norms(subject.ensemble, cycle)["W_E"])
    waves = norms[-1][: (cycle.n - 1) // 2]  # the alternating component has no sine
    strongest = sorted(1 + waves.topk(min(MAX_CIRCLES, len(waves))).indices)
    shown: list[Panel] = []
    for frequency in map(int, strongest):
        plane = fourier.frequency_plane(subject.ensemble, cycle, frequency)  # (snapshot number 2)
        order = sorted(range(cycle.n), key=lambda number: (number * frequency % cycle.n, number))
        labels = [subject.task.tokens[number] for number in order]
        x, y = (plane[:, order, axis].numpy() for axis in (0, 1))
        title = f"Embeddings at frequency {frequency}"
        shown.append(
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
    return shown


def _logits(subject: Subject, cycle: Cycle, answer: str, neuron: int) -> list[Panel]:
    return _components_2d(subject, cycle, answer, "logits")


def _neurons(subject: Subject, cycle: Cycle, answer: str, neuron: int) -> list[Panel]:
    """The 2-D components of all neurons, and the number of neurons of the final model that belong to each frequency."""
    frequencies, shares = fourier.neuron_frequencies(subject.ensemble, cycle.grids[answer], cycle.n)
    lines = [f"{'frequency':<12}{'neurons':>8}{'median variance explained':>32}"]
    for frequency in frequencies.unique().tolist():
        of_frequency = shares[frequencies == frequency]
        lines.append(f"{frequency or 'none':<12}{len(of_frequency):>8}{of_frequency.median():>32.0%}")
    title = f"Neurons{_of_answer(cycle, answer)} of the final model, by the frequency that explains most variance"
    counts = Text("neurons-by-frequency", title, ["\n".join(lines)])
    return [*_components_2d(subject, cycle, answer, "neurons"), counts]


def _components_2d(subject: Subject, cycle: Cycle, answer: str, source: fourier.Source) -> list[Panel]:
    """The 2-D Fourier components of logits or neurons, as functions of both numbers."""
    names, _ = fourier.basis(cycle.n)
    energy = fourier.variance_explained(subject.ensemble, cycle.grids[answer], cycle.n, source)
    title = f"{source.capitalize()}{_of_answer(cycle, answer)}: share of the variance in each 2-D Fourier component"
    return [
        panels.signed_maps(
            "terms", title, [""], energy[:, None], names, names, "component of x", "component of y", span=7
        ),
        Text(
            "largest-terms",
            f"Largest components of the {source}",
            [_table(of_snapshot, names) for of_snapshot in energy],
            span=5,
        ),
    ]


def _of_answer(cycle: Cycle, answer: str) -> str:
    """The suffix of a title that names the answer, if there are several."""
    return f" of {answer}" if len(cycle.grids) > 1 else ""


def _pairs(subject: Subject, cycle: Cycle, answer: str, neuron: int) -> list[Panel]:
    """The loss, and one neuron, at each pair of numbers."""
    grid, ensemble, cfg = cycle.grids[answer], subject.ensemble, subject.info.model
    numbers = subject.task.tokens[: cycle.n]

    def maps(id: str, title: str, values: torch.Tensor, full_colour_at: float | None = None) -> Panel:
        return panels.signed_maps(
            id, title, [""], values[:, None], numbers, numbers, "x", "y", span=6, full_colour_at=full_colour_at
        )

    of_neuron = None if cfg.attn_only else min(neuron, cfg.d_mlp - 1)
    losses, values = fourier.loss_and_neuron_grids(ensemble, grid, cycle.n, of_neuron)
    uniform = math.log(cfg.d_vocab_out)
    shown = [
        maps(
            "pair-losses",
            f"Loss{_of_answer(cycle, answer)} of each pair; darkest at a uniform guess or worse",
            losses,
            uniform,
        )
    ]
    if values is not None:
        silent = "" if values.any() else " (inactive for all pairs at every snapshot)"
        shown.append(maps("neuron", f"Neuron {of_neuron} of the last block{_of_answer(cycle, answer)}{silent}", values))
    return shown


def _table(energy: torch.Tensor, names: tuple[str, ...]) -> str:
    lines = [f"{'x':<10}{'y':<10}{'share':>8}{'cumulative':>12}"]
    for x, y, share, cumulative in fourier.top_terms(energy, names, MAX_TERMS):
        lines.append(f"{x:<10}{y:<10}{share:>8.1%}{cumulative:>12.1%}")
    return "\n".join(lines)


def _progress(subject: Subject, cycle: Cycle, answer: str, neuron: int) -> list[Panel]:
    """Restricted and excluded loss beside the losses, and the sparsity of the frequencies."""
    grid = cycle.grids[answer]
    norms = fourier.norms_by_frequency(fourier.weight_norms(subject.ensemble, cycle)["W_E"])
    keys = fourier.key_frequencies(norms[-1])
    trained_on = subject.task.are_in_training_data(grid.batch, subject.info.training)
    measures = fourier.progress_measures(subject.ensemble, cycle, grid, trained_on, keys)
    has_test = trained_on is not None and 0 < trained_on.sum() < len(trained_on)
    losses = {"train": measures.train, "test": measures.test} if has_test else {"all pairs": measures.all_pairs}
    losses |= {"restricted": measures.restricted, "excluded": measures.excluded}
    frequencies = ", ".join(map(str, keys)) + (" (all)" if len(keys) == cycle.n // 2 else "")
    gini = {"W_E": fourier.gini(norms)}
    return [
        panels.over_snapshots(
            subject,
            "progress",
            f"Loss{_of_answer(cycle, answer)}, restricted to key frequencies {frequencies}, and with them excluded",
            losses,
            unit="nats",
            height=360,
            log=True,
        ),
        panels.over_snapshots(subject, "gini", "Gini coefficient of the frequencies of W_E", gini, unit="", height=200),
    ]


@dataclass(frozen=True)
class Measure:
    """A choice of *Show*: its label and its panels."""

    label: str
    panels: Callable[[Subject, Cycle, str, int], list[Panel]]


MEASURES: Mapping[str, Measure] = {
    "frequencies": Measure("frequencies", _frequencies),
    "circles": Measure("circles", _circles),
    "logits": Measure("logits, 2-D components", _logits),
    "neurons": Measure("neurons, 2-D components", _neurons),
    "pairs": Measure("loss by pair", _pairs),
    "progress": Measure("progress measures", _progress),
}
BY_ANSWER: tuple[str, ...] = ("logits", "neurons", "pairs", "progress")
BY_NEURON: tuple[str, ...] = ("pairs",)


def available(subject: Subject) -> dict[str, str]:
    """Those of `MEASURES` that the run has, as name -> label; none if its tokens are not numbers modulo n.

    Args:
        subject: the run.
    """
    cycle, cfg = subject.task.cycle, subject.info.model
    if cycle is None or cfg.architecture == "table":
        return {}
    sums = any(grid.sign for grid in cycle.grids.values())
    lacking = {"neurons": cfg.attn_only, "progress": not sums}
    return {name: measure.label for name, measure in MEASURES.items() if not lacking.get(name)}


def answers(subject: Subject) -> tuple[str, ...]:
    """The names of the answers that are functions of two numbers.

    Args:
        subject: the run.
    """
    cycle = subject.task.cycle
    return tuple(cycle.grids) if cycle else ()


def n_neurons(subject: Subject) -> int:
    """The number of neurons of a block; 0 if it has no MLP.

    Args:
        subject: the run.
    """
    return 0 if subject.info.model.attn_only else subject.info.model.d_mlp


def basis_panels(subject: Subject) -> list[Heatmaps]:
    """The Fourier basis of the run's numbers, and its Gram matrix, each a map with one frame.

    Args:
        subject: the run.
    """
    cycle = subject.task.cycle
    if cycle is None:
        return []
    names, basis = fourier.basis(cycle.n)
    numbers = subject.task.tokens[: cycle.n]

    def map_of(id: str, title: str, values: torch.Tensor, columns: Sequence[str], column_axis: str) -> Heatmaps:
        return panels.signed_maps(id, title, [""], values[None, None], names, columns, "component", column_axis)

    return [
        map_of("basis", "Fourier basis", basis, numbers, "number"),
        map_of("gram", "Gram matrix of the Fourier basis", basis @ basis.T, names, "component"),
    ]
