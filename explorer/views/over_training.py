"""Every measure of a run as curves over training, which can all be dated in the same way."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from explorer.analysis.attribution import batch_attribution
from explorer.analysis.circuits import composition_scores
from explorer.analysis.components import components
from explorer.analysis.heads import head_scores
from explorer.analysis.leads import Measure
from explorer.analysis.weights import parameter_norms
from explorer.film.panels.curves import Curves
from explorer.measures.complexity import Calibrated, Complexity, sampled
from explorer.measures.grafts import UNCHANGED, Parts, single_parts
from explorer.measures.measure import NoSettings
from explorer.measures.sharpness import Sharpness, SharpnessSettings
from explorer.model.architectures import activation_bytes
from explorer.runs import Run
from explorer.runs.measures import MeasureFiles
from explorer.tasks.task import Task
from explorer.views import fourier, panels
from explorer.views.complexity import believed, settings_of
from explorer.views.heads import REPEATED_TOKENS, datasets, repeated_sequences
from explorer.views.measuring import kept, measured
from explorer.views.sampling import WORK
from explorer.views.subject import UNSEEN, Losses, Subject

SEQUENCES = 16  # of repeated random tokens, over which head scores are averaged; examples at least for attributions
SCORES = ("previous token", "prefix matching")
PROMINENT = 0.2  # share of attention, or of the right logit: parts that never have as much are not told one by one
MOST_PAIRS = 3  # of heads, with the largest K-composition
TOLD = {"restricted": "restricted loss", "excluded": "excluded loss", "W_E": "Gini coefficient of W_E"}

Test = Literal["ablation", "graft"]


@dataclass(frozen=True, eq=False)
class Family:
    """A measure over training, of the model as a whole or of each of several of its parts.

    Attributes:
        name: of each curve, with ``{}`` in the place of its parts.
        steps: (row,) ascending.
        values: (row curve); what is not a number was not measured.
        parts: (curve,) heads and MLPs of which each is measured; of the whole model none.
        error: (row curve), the standard error of each value, where it is known.
        span: of the values, as `Measure.span`.
        largest: the name of the largest value of all parts, which can be compared between seeds: in one the part that
            does the same has another name. Empty if there is none.
        told: (curve,) the places of the curves that are told one by one; None for all.
        test: what would show that a part is a cause.
    """

    name: str
    steps: Tensor
    values: Tensor
    parts: Sequence[tuple[str, ...]] = ((),)
    error: Tensor | None = None
    span: float = math.nan
    largest: str = ""
    told: Sequence[int] | None = None
    test: Test = "ablation"

    def each(self) -> "Iterator[Curve]":
        """The curves, one by one."""
        for i in range(len(self.parts)) if self.told is None else self.told:
            error = None if self.error is None else self.error[:, i]
            name = self.name.format(" and ".join(self.parts[i]))
            yield Curve(self._measure(name, self.values[:, i], error), self.parts[i], self.test)

    def of_any_model(self) -> Measure | None:
        """What can be compared between seeds; None if nothing can."""
        name = self.largest or ("" if any(self.parts) else self.name)
        values, place = self.values.max(1, keepdim=True)
        error = None if self.error is None else self.error.gather(1, place)[:, 0]
        return self._measure(name, values[:, 0], error) if name else None

    def _measure(self, name: str, values: Tensor, error: Tensor | None) -> Measure:
        return Measure(name, self.steps, values.double(), None if error is None else error.double(), self.span)


@dataclass(frozen=True, eq=False)
class Curve:
    """A measure of a run, and what would show that it is a cause."""

    measure: Measure
    parts: tuple[str, ...]
    test: Test


def kept_with(run: Run) -> str:
    """What changes whenever one of the measures does that take minutes and are dated here.

    Args:
        run: with which they are kept.
    """
    stamps = [MeasureFiles(run, measure.name).stamp() for measure in (Parts, Sharpness, Calibrated, Complexity)]
    return hashlib.sha256(repr(stamps).encode()).hexdigest()[:16] if any(stamps) else ""


def falls(task: Task) -> dict[str, list[int]]:
    """The losses whose falls are dated, by name: of each group of tokens the mean, and of each token its own.

    Args:
        task: whose losses they are.
    """
    found: dict[str, list[int]] = {}
    for token, group in enumerate(task.loss_groups):
        found.setdefault(group, []).append(token)
    return found | {name: [token] for token, name in enumerate(task.loss_names) if name not in found}


def loss_of(losses: Losses, tokens: Sequence[int], name: str) -> Measure:
    """A mean loss over training.

    Args:
        losses: of a run.
        tokens: over which it is a mean.
        name: of their mean.
    """
    mean = losses.of(tokens, name)
    return Measure(f"loss of {mean.label(0)}", mean.steps, mean.values[:, 0], span=float(mean.uniform - mean.best))


def families(subject: Subject, fall: str) -> Iterator[list[Family]]:
    """All measures of a run that are known, besides the losses whose falls are dated.

    Args:
        subject: the run.
        fall: one of `falls`. Attributions are those to its right answers.

    Yields:
        `N_PARTS` times, some of the measures: the same objects, when they are asked for again.
    """
    for part in OF_ALL_FALLS:
        yield subject.once(_known, part)
    yield subject.once(_known, _attributions, fall)


def _known(subject: Subject, part: Callable[..., Iterable[Family]], *parameters: str) -> list[Family]:
    return list(part(subject, *parameters))


def _train_losses(subject: Subject) -> Iterator[Family]:
    for losses in subject.losses()[1:]:
        for group, tokens in subject.groups.items():
            loss = loss_of(losses, tokens, group)
            yield Family(loss.name, loss.steps, loss.values[:, None], span=loss.span)


def _scores(subject: Subject) -> Iterator[Family]:
    if REPEATED_TOKENS not in datasets(subject):
        return
    found = head_scores(subject.ensemble, repeated_sequences(subject).tokens[:SEQUENCES])
    heads = [(name,) for name in panels.head_names(subject.info.model)]
    for score in SCORES:
        mean = found[score].mean(-1)  # (snapshot head)
        yield _of_snapshots(
            subject,
            f"{score} score of {{}}",
            mean,
            heads,
            error=found[score].std(-1) / SEQUENCES**0.5,
            span=1.0,
            largest=f"best {score} score",
            told=_prominent(mean, PROMINENT),
        )


def _composition(subject: Subject) -> Iterator[Family]:
    if subject.info.model.n_layers < 2:
        return
    pairs, scores = composition_scores(subject.ensemble, "K")  # (snapshot pair)
    largest = scores.amax(0).topk(min(MOST_PAIRS, len(pairs))).indices.tolist()
    yield _of_snapshots(subject, "K-composition of {}", scores, pairs, largest="largest K-composition", told=largest)


def _norm(subject: Subject) -> Iterator[Family]:
    norms = torch.stack(list(parameter_norms(subject.ensemble).values())).square().sum(0).sqrt()
    yield _of_snapshots(subject, "norm of all weights", norms[:, None])


def _fourier(subject: Subject) -> Iterator[Family]:
    """Of as many snapshots as the view of them shows."""
    if "progress" not in fourier.available(subject.info):
        return
    for panel in fourier.film(subject, "progress", fourier.answers(subject)[0]).panels:
        if isinstance(panel, Curves) and panel.id in ("progress", "gini"):
            for line in panel.lines:
                if line.label in TOLD:
                    yield Family(TOLD[line.label], torch.tensor(line.steps), torch.tensor(line.values)[:, None])


def _attributions(subject: Subject, fall: str) -> Iterator[Family]:
    """Of heads and of MLPs, to the right answers whose loss falls."""
    names, attributed, logits = subject.once(_attributed)
    tokens = falls(subject.task)[fall]
    span = float(logits[:, tokens].nanmean(-1).abs().max())
    of_kinds: dict[str, list[int]] = {}
    for component in components(subject.info.model):
        kind = "an MLP" if component.kind == "mlp" else "a head"
        of_kinds.setdefault(kind, []).append(names.index(component.name))
    for kind, places in of_kinds.items():
        values = attributed[:, places][..., tokens].nanmean(-1)  # (snapshot part)
        yield _of_snapshots(
            subject,
            "attribution of {}",
            values,
            [(names[place],) for place in places],
            span=span,
            largest=f"largest attribution of {kind}",
            told=_prominent(values, PROMINENT * span),
        )


def _attributed(subject: Subject) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """The names of all components, their attributions (snapshot component token), and their sum (snapshot token), each
    a mean over unseen examples."""
    cfg = subject.info.model
    cost = len(subject.steps) * activation_bytes(cfg, cfg.n_ctx)
    batch = subject.unseen(max(SEQUENCES, min(UNSEEN, WORK // cost)))
    found = batch_attribution(subject.ensemble, batch)
    values = found.values.movedim(-1, 1).double()  # (snapshot component example answer)
    attributed, logits = (subject.task.per_token(one, batch) for one in (values, found.logits.double()))
    return found.components, attributed, logits


def _kept(subject: Subject) -> Iterator[Family]:
    """Those of the measures that take minutes."""
    sharp = kept(subject, (Sharpness(), SharpnessSettings()))
    if sharp is not None:
        values = torch.full((len(subject.steps), 1), torch.nan)
        values[sharp.tensors["place"].long(), 0] = sharp.tensors["sharpness"].float()
        yield _of_snapshots(subject, "sharpness", values)
    settings = settings_of(subject)
    complexity = kept(subject, (Complexity(), settings))
    if complexity is not None:
        llc, error = believed(subject, sampled(measured(subject), settings, complexity.tensors))
        yield _of_snapshots(subject, "local learning coefficient", llc[:, None], error=error[:, None])
    parts = kept(subject, (Parts(), NoSettings()))
    if parts is not None:
        for name, losses in zip(single_parts(subject.info), parts.tensors["with_final"], strict=False):
            if name not in (UNCHANGED, "everything"):
                mean = losses.float().nanmean(-1, keepdim=True)
                yield _of_snapshots(subject, "loss with the final {}", mean, [(name,)], test="graft")


OF_ALL_FALLS = (_train_losses, _norm, _composition, _scores, _kept, _fourier)
N_PARTS = len(OF_ALL_FALLS) + 1


def _of_snapshots(
    subject: Subject, name: str, values: Tensor, parts: Sequence[tuple[str, ...]] = ((),), **more: Any
) -> Family:
    return Family(name, torch.tensor(subject.steps), values, parts, **more)


def _prominent(values: Tensor, least: float) -> list[int]:
    """The places of the curves (row curve) that ever are as large."""
    return (values.nan_to_num(0).amax(0) >= least).nonzero()[:, 0].tolist()
