"""The overview, also with parts of the model ablated."""

from dataclasses import dataclass

import numpy as np

from explorer.film.panels.diagram import Diagram
from explorer.film.panels.panel import Panel
from tests.plain import measures, tasks
from tests.plain.model import Array, Replace, forward, softmax
from tests.printed.expected import Expected, Maps, Sequence, same
from tests.printed.interventions import ablation
from tests.printed.losses_and_answers import bars, head_names, labels, no_future, strip
from tests.printed.page import Page, recomputes


@dataclass(frozen=True)
class Drawing(Expected):
    """A diagram of the model."""

    tokens: Sequence[str]
    answers: Sequence[str]
    asks: Sequence[int]
    parts: Sequence[str]
    attention: Array  # (frame answer head token)
    added: Array  # (frame answer part)
    probability: Array  # (frame answer)

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Diagram)
        assert list(panel.tokens) == list(self.tokens)
        assert list(panel.answers) == list(self.answers)
        assert list(panel.asks) == list(self.asks)
        assert list(panel.parts) == list(self.parts)
        same(panel.attention[frames], self.attention, self.rtol)
        same(panel.added[frames], self.added, self.rtol)
        same(panel.probability[frames], self.probability, self.rtol)


def replaced(page: Page) -> Replace:
    """What is ablated, with zero."""
    return ablation(page.options.without, {})


def said(page: Page) -> list[tuple[list[int], Array]]:
    return page.each(lambda w: measures.greedy(page.cfg, w, page.prompt, replaced(page)))


@recomputes("overview", "answers")
def answers(page: Page, id: str) -> Expected:
    return strip(page.run, page.prompt, said(page))


@recomputes("overview", "probabilities")
def probabilities(page: Page, id: str) -> Expected:
    return bars(page, np.array([values for _, values in said(page)]), page.prompt)


@recomputes("overview", "patterns")
def patterns(page: Page, id: str) -> Expected:
    found = page.each(lambda w: forward(page.cfg, w, page.prompt.tokens[None], replaced(page)))
    values = np.array([no_future(measures.by_layer(page.cfg, one, "hook_pattern")[0]) for one in found])
    names = labels(page.run, page.prompt)
    return Maps(head_names(page.cfg), values, names, names)


@recomputes("overview", "diagram")
def diagram(page: Page, id: str) -> Expected:
    prompt, cut = page.prompt, replaced(page)
    rows = np.arange(len(prompt.targets))

    def at(w: dict) -> tuple[Array, Array, Array]:
        found = forward(page.cfg, w, prompt.tokens[None], cut)
        attention = measures.by_layer(page.cfg, found, "hook_pattern")[0][:, prompt.positions]
        of_answer = [measures.attribution(page.cfg, w, prompt, answer, True, cut)[0] for answer in rows]
        added = np.array([list(added.values()) for added in of_answer])
        return attention.swapaxes(0, 1), added, softmax(found["logits"][0, prompt.positions])[rows, prompt.targets]

    attention, added, probability = (np.array(values) for values in zip(*page.each(at), strict=True))
    names, written = measures.components(page.cfg), tasks.answer_tokens(page.run.task)
    return Drawing(
        labels(page.run, prompt),
        [written[target] for target in prompt.targets],
        list(prompt.positions),
        ["embedding", "positions", *names],
        attention,
        added,
        probability,
    )
