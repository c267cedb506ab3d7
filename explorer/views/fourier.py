"""Numbers modulo n: weights and activations in the Fourier basis, at every snapshot."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from explorer.analysis import fourier
from explorer.analysis.fourier_grid import Source, progress_measures
from explorer.analysis.similarity import cosines
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.columns import Columns
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.panel import Panel
from explorer.film.panels.raster import Raster
from explorer.film.panels.scatter import Scatter
from explorer.model.architectures import activation_shapes
from explorer.model.hooks import hook_axes
from explorer.options import Context, choice, number, several, switch
from explorer.runs import RunInfo
from explorer.views import panels
from explorer.views.fourier_pairs import Entry, Pairs, by_pair, default_hook, n_units
from explorer.views.fourier_terms import STRONGEST, all_channels, channel_name, n_channels, single_channels
from explorer.views.subject import Subject
from explorer.views.view import Choices, Figures, Item, View, same_labels

MAX_PAIRS = 200_000  # over all snapshots together; beyond that, fewer snapshots are shown
MAX_CIRCLES = 3
NOT_CYCLIC = (
    "The tokens of this run are not numbers modulo n, so there is no Fourier basis for them. Choose a run of addition "
    "or modular addition."
)


def _pairs(context: Context) -> Pairs:
    return pairs_of(context.subject, context.chosen["answer"])


def _channels(context: Context) -> dict[int, str]:
    if not _shows(context, "single"):
        return {}
    pairs, source = _pairs(context), context.chosen["source"]
    return {channel: channel_name(pairs, source, channel) for channel in range(n_channels(pairs, source))}


def _hooks(context: Context) -> dict[str, str]:
    return same_labels(activation_shapes(context.subject.info.model, 1)) if _shows(context, "pairs") else {}


def _heads(context: Context) -> dict[int, str]:
    if not _shows(context, "pairs") or "head" not in _axes(context):
        return {}
    layer = int(context.chosen["hook"].split(".")[1])
    return dict(enumerate(panels.head_names(context.subject.info.model, [layer])))


def _positions(context: Context) -> dict[int, str]:
    return dict(enumerate(_pairs(context).positions)) if _shows(context, "pairs") else {}


def _keys(context: Context) -> dict[int, str]:
    """The positions that the chosen query sees."""
    if not _is_attention(context):
        return {}
    return {key: label for key, label in _positions(context).items() if key <= context.chosen["position"]}


def _last_unit(context: Context) -> int:
    return max(n_units(context.subject, context.chosen["hook"]) - 1, 0) if _shows(context, "pairs") else 0


def _axes(context: Context) -> tuple[str, ...]:
    return hook_axes(context.chosen["hook"])


def _is_attention(context: Context) -> bool:
    return _shows(context, "pairs") and _axes(context)[-1] == "key"


def _shows(context: Context, measure: str) -> bool:
    return bool(context.chosen["show"] == measure)


ENTRY: dict[str, Any] = {"widget": "list", "width": 128, "labelled": True}


@dataclass(frozen=True)
class Options:
    show: str = choice("Show", lambda context: available(context.subject.info))
    answer: str = choice(
        "Answer",
        lambda context: same_labels(answers(context.subject)),
        when=lambda context: context.chosen["show"] in BY_ANSWER,
    )
    source: Source = choice(
        "Logits or neurons",
        lambda context: same_labels(sources(context.subject)),
        when=lambda context: _shows(context, "single"),
    )
    channels: tuple[int, ...] = several(
        "Logits or neurons",
        _channels,
        placeholder=f"the {STRONGEST} that vary most",
        place="after",
        per="source",
        when=lambda context: _shows(context, "single"),
    )
    hook: str = choice(
        "Activation",
        _hooks,
        preferred=lambda context: default_hook(context.subject) if _shows(context, "pairs") else None,
        when=lambda context: _shows(context, "pairs"),
        **{**ENTRY, "width": 264},
    )
    head: int = choice("Head", _heads, when=lambda context: bool(_heads(context)), **ENTRY)
    position: int = choice(
        lambda context: "Query" if _is_attention(context) else "Position",
        _positions,
        preferred=lambda context: _pairs(context).answered_at if _shows(context, "pairs") else None,
        when=lambda context: _shows(context, "pairs"),
        **ENTRY,
    )
    key: int = choice("Key", _keys, when=_is_attention, **ENTRY)
    unit: int = number(
        lambda context: _axes(context)[-1],
        0,
        _last_unit,
        when=lambda context: _last_unit(context) > 0,
        labelled=True,
    )
    basis: bool = switch("Show the Fourier basis and its Gram matrix", place="end")


class Fourier(View[Options]):
    name, title, icon, order = "fourier", "Fourier", "waves", 7
    inside = True
    heading = "Does the model compute with waves?"
    sentence = (
        "How much of the weights or activations is a wave of each frequency over the numbers; a few key "
        "frequencies carry the whole algorithm."
    )
    options_type = Options

    def offered(self, info: RunInfo) -> bool:
        return bool(available(info))

    def unavailable(self, subject: Subject, example: str, options: Options) -> str:
        return "" if self.offered(subject.info) else NOT_CYCLIC

    def uses_example(self, subject: Subject, options: Options) -> bool:
        return False

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        entry = None
        if options.show == "pairs":
            # What the hook point lacks, None, is not read.
            entry = Entry(options.hook, options.position, options.head or 0, options.key or 0, options.unit)
        return film(subject, options.show, options.answer, Detail(options.source, options.channels, entry))

    def below(self, subject: Subject, example: str, options: Options) -> Sequence[Item]:
        return [Choices(["basis"]), *([Figures(basis_panels(subject))] if options.basis else [])]


@dataclass(frozen=True)
class Detail:
    """What is shown by those of `MEASURES` that leave a choice."""

    source: Source = "logits"
    channels: tuple[int, ...] = ()  # indices of logits or neurons; none: those that vary most
    entry: Entry | None = None  # of an activation; None: neuron 0 or, without an MLP, unit 0 of the residual stream


def film(subject: Subject, measure: str, answer: str, detail: Detail = Detail()) -> Film:
    """The panels of one measure, for a task whose tokens are numbers modulo n.

    Args:
        subject: the run.
        measure: one of `MEASURES`.
        answer: the name of the answer that is analysed as a function of both numbers; if the task has no such answer,
            its first one is.
        detail: what is shown of the measure.

    Raises:
        UserError: the task's tokens are not numbers modulo n, or the model lacks what is measured.
    """
    pairs = pairs_of(subject, answer)
    if measure != "frequencies":
        pairs = pairs_of(subject.thinned(max(2, MAX_PAIRS // pairs.cycle.n**2)), answer)
    shown = MEASURES[measure].panels(pairs, detail)
    return Film(pairs.subject.steps, [panels.timeline(pairs.subject), *shown])


def pairs_of(subject: Subject, answer: str) -> Pairs:
    """All pairs of numbers of a run.

    Args:
        subject: the run.
        answer: the name of an answer; if the task has no such answer, its first one is taken.

    Raises:
        UserError: the task's tokens are not numbers modulo n.
    """
    cycle = subject.task.cycle
    if cycle is None:
        raise UserError(NOT_CYCLIC)
    return Pairs(subject, cycle, answer if answer in cycle.grids else next(iter(cycle.grids)))


def _frequencies(pairs: Pairs, detail: Detail) -> list[Panel]:
    """The norm of each weight matrix at each frequency."""
    subject, cycle = pairs.subject, pairs.cycle
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
                f"{title}, without the constant; bold: key frequencies of the final model",
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
                by_frame=True,
                span=6,
            )
        )
    sparsities = {
        "gini": ("Gini coefficient over frequencies, without the constant: 0 if all are equal", fourier.gini),
        "participation": (
            "Inverse participation ratio, without the constant: 1 if only one frequency is present",
            fourier.inverse_participation_ratio,
        ),
    }
    for id, (title, sparsity) in sparsities.items():
        curves = {name: sparsity(by_frequency) for name, by_frequency in by_matrix.items()}
        shown.append(panels.over_snapshots(subject, id, title, curves, unit="", span=6))
    return shown


def _circles(pairs: Pairs, detail: Detail) -> list[Panel]:
    """The embeddings of the numbers, projected on the planes of the final model's strongest frequencies, and how alike
    they are."""
    subject, cycle = pairs.subject, pairs.cycle
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
    alike = cosines(subject.ensemble.weights["embed.W_E"][:, : cycle.n])  # (snapshot number number)
    title = f"Cosine similarity of the embeddings of all {cycle.n} numbers"
    numbers = pairs.numbers
    shown.append(panels.signed_maps("cosines", title, [""], alike[:, None], numbers, numbers, "number", "number"))
    return shown


def _progress(pairs: Pairs, detail: Detail) -> list[Panel]:
    """Restricted and excluded loss beside the losses, and the sparsity of the frequencies."""
    subject, cycle, grid = pairs.subject, pairs.cycle, pairs.grid
    norms = fourier.norms_by_frequency(fourier.weight_norms(subject.ensemble, cycle)["W_E"])
    keys = fourier.key_frequencies(norms[-1])
    trained_on = subject.task.are_in_training_data(grid.batch, subject.info.training)
    measures = progress_measures(subject.ensemble, cycle, grid, trained_on, keys)
    has_test = trained_on is not None and 0 < trained_on.sum() < len(trained_on)
    losses = {"train": measures.train, "test": measures.test} if has_test else {"all pairs": measures.all_pairs}
    losses |= {"restricted": measures.restricted, "excluded": measures.excluded}
    on = pairs.counted
    which = f"({on}), and with them excluded (training pairs)" if has_test else f"and with them excluded ({on})"
    frequencies = ", ".join(map(str, keys)) + (" (all)" if len(keys) == cycle.n // 2 else "")
    gini = {"W_E": fourier.gini(norms)}
    return [
        panels.over_snapshots(
            subject,
            "progress",
            f"Loss{pairs.of_answer}, restricted to key frequencies {frequencies} {which}",
            losses,
            unit="nats",
            height=360,
            log=True,
        ),
        panels.over_snapshots(
            subject,
            "gini",
            "Gini coefficient of the frequencies of W_E, without the constant",
            gini,
            unit="",
            height=200,
        ),
    ]


@dataclass(frozen=True)
class Measure:
    """A choice of *Show*: its label and its panels."""

    label: str
    panels: Callable[[Pairs, Detail], list[Panel]]


MEASURES: Mapping[str, Measure] = {
    "frequencies": Measure("frequencies", _frequencies),
    "circles": Measure("circles", _circles),
    "logits": Measure("logits, 2-D terms", lambda pairs, detail: all_channels(pairs, "logits")),
    "neurons": Measure("neurons, 2-D terms", lambda pairs, detail: all_channels(pairs, "neurons")),
    "single": Measure(
        "2-D terms with signs", lambda pairs, detail: single_channels(pairs, detail.source, detail.channels)
    ),
    "pairs": Measure("by pair", lambda pairs, detail: by_pair(pairs, detail.entry or _default_entry(pairs))),
    "progress": Measure("progress measures", _progress),
}
BY_ANSWER: tuple[str, ...] = ("logits", "neurons", "single", "pairs", "progress")


def _default_entry(pairs: Pairs) -> Entry:
    return Entry(default_hook(pairs.subject), pairs.answered_at)


def available(info: RunInfo) -> dict[str, str]:
    """Those of `MEASURES` that a run has, as name -> label; none if its tokens are not numbers modulo n.

    Args:
        info: of the run.
    """
    cycle, cfg = info.task.cycle, info.model
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


def sources(subject: Subject) -> tuple[Source, ...]:
    """What can be transformed: the logits, and the neurons of the last block, if it has an MLP.

    Args:
        subject: the run.
    """
    return ("logits",) if subject.info.model.attn_only else ("logits", "neurons")


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
