"""One page of one run with its three snapshots, and the register of what recomputes its panels."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

from explorer.film.film import Film
from explorer.measures.measure import Measured
from explorer.views.subject import Subject
from explorer.views.view import Item, View
from tests.plain import tasks
from tests.plain.model import Array, backward, cross_entropy, forward, mean_loss_slope
from tests.plain.run import PlainRun
from tests.plain.tasks import Prompt
from tests.printed.expected import Expected

Sample = tuple[Array, Array, Array]  # tokens (batch pos), positions and targets (batch answer)
_UNSEEN: dict[tuple[PlainRun, int], Sample] = {}
_OF_MEASURES: dict[tuple[PlainRun, int, bool], Sample] = {}


@dataclass(frozen=True, eq=False)
class Page:
    """A view of a run, as the explorer composes it, and the run's files beside it."""

    run: PlainRun
    subject: Subject  # of which only the examples that the view used are taken
    view: View
    options: Any
    example: str
    film: Film
    items: Sequence[Item]  # above and below the film
    second: "tuple[PlainRun, Subject] | None" = None

    @cached_property
    def frames(self) -> list[int]:
        """Places of the three snapshots in the film."""
        steps = np.array(self.film.steps)
        return sorted({int(np.abs(steps - self.run.steps[place]).argmin()) for place in self.run.three})

    @property
    def steps(self) -> list[int]:
        """Of the three snapshots."""
        return [self.film.steps[frame] for frame in self.frames]

    @property
    def cfg(self) -> dict:
        return self.run.model

    @property
    def prompt(self) -> Prompt:
        return tasks.prompt(self.run.task, self.example)

    @property
    def brief(self) -> str:
        """The example as titles have it."""
        return self.example if len(self.example) <= 24 else f"{self.example[:23]}…"

    def each(self, measure: Callable[[dict], Any]) -> list[Any]:
        """A measure of the weights at each of the three snapshots."""
        return [measure(self.run.weights(step)) for step in self.steps]

    def every(self, measure: Callable[[dict], Any]) -> list[Any]:
        """A measure of the weights at every snapshot."""
        return [measure(self.run.weights(step)) for step in self.run.steps]

    @property
    def last(self) -> dict:
        """The final weights."""
        return self.run.weights(self.run.steps[-1])

    @property
    def prompt_sample(self) -> Sample:
        """The example as a batch of one."""
        return self.prompt.tokens[None], self.prompt.positions[None], self.prompt.targets[None]

    def unseen(self, n: int, of: int | None = None) -> Sample:
        """The first unseen examples of a batch of ``of``, or of ``n`` in all. The task draws them."""
        key = self.run, of or n
        if key not in _UNSEEN:
            batch = self.subject.unseen(of or n)
            _UNSEEN[key] = batch.tokens.numpy(), batch.positions.numpy(), batch.targets.numpy()
        tokens, positions, targets = _UNSEEN[key]
        assert 0 < n <= len(tokens)
        return tokens[:n], positions[:n], targets[:n]

    def of_measures(self, n: int, training: bool = False) -> Sample:
        """The first ``n`` unseen examples, or of the training data, as measures that take minutes have them."""
        key = self.run, n, training
        if key not in _OF_MEASURES:
            of = Measured(self.subject.info, self.subject.ensemble)
            batch = (of.training_data(n) if training else of.unseen(n)).rows(slice(n))
            _OF_MEASURES[key] = batch.tokens.numpy(), batch.positions.numpy(), batch.targets.numpy()
        return _OF_MEASURES[key]

    def token_losses(self, w: dict, sample: Sample) -> Array:
        """The mean of each of the task's per-token losses."""
        tokens, positions, targets = sample
        logits = forward(self.cfg, w, tokens)["logits"][np.arange(len(tokens))[:, None], positions]
        return np.nanmean(tasks.by_token(self.run.task, cross_entropy(logits, targets), targets), 0)

    def kept(self, name: str) -> tuple[dict[str, Array], dict]:
        """The tensors of a file of a measure, and the settings with which it was measured."""
        file = self.run.folder / "measures" / f"{name}.safetensors"
        with safe_open(file, framework="numpy") as opened:
            return load_file(file), json.loads(opened.metadata()["measure"])["settings"]

    def title(self, id: str) -> str:
        """Of a panel."""
        return next(panel.title for panel in self.film.panels if panel.id == id)

    def n_examples(self, id: str) -> int:
        """How many examples a panel is of, as its title says."""
        found = re.search(r"(?:on|over) ([\d,]+) (?:unseen|sequences)", self.title(id))
        assert found
        return int(found[1].replace(",", ""))

    def activations(self, sample: Sample, gradient: bool = False, at: int | None = None) -> list[dict[str, Array]]:
        """All activations on a sample, or the gradients of each example's mean loss, at the three snapshots.

        Args:
            sample: the examples.
            gradient: which of the two.
            at: the step of another snapshot, instead of the three.
        """
        key, steps = tuple(part.tobytes() for part in sample), self.steps if at is None else [at]
        return [_activations(self.run, step, key, sample[0].shape, sample[1].shape, gradient) for step in steps]


@lru_cache(maxsize=16)
def _activations(
    run: PlainRun, step: int, key: tuple[bytes, ...], shape: tuple[int, int], answers: tuple[int, int], gradient: bool
) -> dict[str, Array]:
    tokens, positions, targets = (
        np.frombuffer(part, np.int64).reshape(of) for part, of in zip(key, (shape, answers, answers), strict=True)
    )
    w = run.weights(step)
    found = forward(run.model, w, tokens)
    if not gradient:
        return found
    return backward(run.model, w, found, mean_loss_slope(found["logits"], positions, targets))


Recomputation = Callable[[Page, str], Expected]  # of a page and the id of a panel
Check = Callable[[Page, Any], None]  # of a page and an item above or below the film
PANELS: list[tuple[str, str, Recomputation]] = []
ITEMS: dict[tuple[str, type], Check] = {}
# Panels, as regular expressions of the view and of the panel's id, that nobody recomputes, and why.
NOT_RECOMPUTED: dict[tuple[str, str], str] = {}


def is_not_recomputed(view: str, id: str) -> bool:
    """Whether a panel is known not to be recomputed."""
    return any(re.fullmatch(views, view) and re.fullmatch(ids, id) for views, ids in NOT_RECOMPUTED)


def recomputes(views: str, *ids: str) -> Callable[[Recomputation], Recomputation]:
    """Marks the recomputation of some panels.

    Args:
        views: a regular expression of the names of the views.
        ids: regular expressions of the panels' ids.
    """

    def register(function: Recomputation) -> Recomputation:
        PANELS.extend((views, id, function) for id in ids)
        return function

    return register


def checks(view: str, item: type) -> Callable[[Check], Check]:
    """Marks the check of the items of one type above and below the film of a view."""

    def register(function: Check) -> Check:
        ITEMS[view, item] = function
        return function

    return register


def recomputation(view: str, id: str) -> Recomputation:
    """The one function that recomputes a panel."""
    found = [one for views, ids, one in PANELS if re.fullmatch(views, view) and re.fullmatch(ids, id)]
    assert found, f"nobody recomputes the panel {id} of the view {view}; add a function to tests/printed"
    assert len(found) == 1, f"{len(found)} functions recompute the panel {id} of the view {view}"
    return found[0]
