"""Where every head looks, at every snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.analysis.heads import find_repeats, head_scores, repeated_tokens
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.heatmaps import Heatmaps
from explorer.scene import choice
from explorer.tasks.data import Batch, Example
from explorer.views import panels
from explorer.views.subject import ROOM, Subject
from explorer.views.view import View

KINDS: Mapping[str, str] = {  # what is shown of attention -> its hook point
    "pattern": "hook_pattern",
    "scores": "hook_attn_scores",
    "gradient": "hook_pattern_grad",
}
IDS = {"pattern": "patterns", "scores": "scores", "gradient": "gradients"}
TITLES = {
    "pattern": "Attention patterns",
    "scores": "Attention scores, before softmax",
    "gradient": "Gradient of the loss at attention patterns",
}
REPEATED_TOKENS, UNSEEN_EXAMPLES = "repeated", "unseen"
PROBES: Mapping[str, str] = {REPEATED_TOKENS: "repeated random tokens", UNSEEN_EXAMPLES: "unseen examples"}
OUTLINED = 4  # tokens that come again are outlined where there are so many of them
REPEATED, LEAST_REPEATED = 4, 4  # texts of repeated tokens, and the fewest tokens that are worth repeating


@dataclass(frozen=True)
class Options:
    show: str = choice(
        "Show",
        lambda context: {
            "one": f"one {context.subject.task.noun}",
            "mean": "mean over a batch",
            "heads": "what heads do",
        },
    )
    of: str = choice(
        "Of attention", {kind: kind for kind in KINDS}, when=lambda context: context.chosen["show"] != "heads"
    )
    on: str = choice(
        "Measured on", lambda context: probes(context.subject), when=lambda context: context.chosen["show"] == "heads"
    )


class Attention(View[Options]):
    name, title, icon, place = "attention", "Attention", "grid_on", (1, 0)
    options_type = Options

    def uses_example(self, options: Options) -> bool:
        return options.show == "one"

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        if options.show == "heads":
            return scores_film(subject, options.on)
        return mean_film(subject, options.of) if options.show == "mean" else example_film(subject, example, options.of)


def example_film(subject: Subject, text: str, kind: str) -> Film:
    """One of `KINDS` on one example, stretches of tokens that come again outlined.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    example = subject.task.encode(text)
    labels = panels.token_labels(subject, example)
    title = f"{TITLES[kind]} on {panels.brief(example.text)}{panels.given(example)}"
    return _film(subject, example.batch, kind, labels, title, _outlines(example))


def mean_film(subject: Subject, kind: str) -> Film:
    """One of `KINDS`, averaged over a batch of unseen examples."""
    batch = subject.unseen(room=ROOM // 2 if kind == "gradient" else ROOM)
    labels = [str(place) for place in range(batch.tokens.shape[1])]
    return _film(subject, batch, kind, labels, f"{TITLES[kind]}, mean over {len(batch.tokens)} unseen examples")


def scores_film(subject: Subject, probe: str) -> Film:
    """What heads do, in four numbers each, over training.

    Args:
        probe: one of `PROBES`, on which it is measured.

    Raises:
        UserError: the model is too short, or knows too few tokens, for repeated random ones.
    """
    tokens = _repeated(subject) if probe == REPEATED_TOKENS else subject.unseen().tokens
    names = panels.head_names(subject.info.model)
    found = head_scores(subject.ensemble, tokens)
    curves = [
        panels.over_snapshots(
            subject,
            name.replace(" ", "-"),
            f"{name.capitalize()}{'' if name == 'entropy' else ' score'}, on {PROBES[probe]}",
            dict(zip(names, values.unbind(1), strict=True)),
            unit="nats" if name == "entropy" else "share of attention",
            span=6,
        )
        for name, values in found.items()
    ]
    return Film(subject.steps, [panels.timeline(subject), *curves])


def probes(subject: Subject) -> Mapping[str, str]:
    """Those of `PROBES` on which this run can be measured."""
    length = _length(subject)
    if length >= LEAST_REPEATED and subject.info.model.d_vocab > length:
        return PROBES
    return {UNSEEN_EXAMPLES: PROBES[UNSEEN_EXAMPLES]}


def _length(subject: Subject) -> int:
    """How many random tokens are repeated: a third of what the model reads. What is half of a text away, heads may
    never have had to find."""
    return (subject.info.model.n_ctx - 1) // 3


def _repeated(subject: Subject) -> Tensor:
    """Random tokens and the same again, behind the token 0, with which texts begin, (batch pos)."""
    cfg = subject.info.model
    if REPEATED_TOKENS not in probes(subject):
        raise UserError(
            f"This model reads {cfg.n_ctx} tokens of a vocabulary of {cfg.d_vocab}, too few to repeat random ones; "
            f"choose {PROBES[UNSEEN_EXAMPLES]} instead."
        )
    tokens = repeated_tokens(cfg.d_vocab, _length(subject), REPEATED)
    return torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1)


def _outlines(example: Example) -> list[tuple[int, int, int, int]]:
    """Where the tokens of a later stretch look when they look at what followed the earlier one."""
    found = find_repeats(example.tokens, OUTLINED)
    return [(again, first + 1, length, length) for first, again, length in found]


def _film(
    subject: Subject,
    batch: Batch,
    kind: str,
    labels: list[str],
    title: str,
    outlines: list[tuple[int, int, int, int]] | None = None,
) -> Film:
    values = panels.mean_attention(subject, batch, KINDS[kind])
    return Film(subject.steps, [panels.timeline(subject), _maps(subject, values, kind, labels, title, outlines or [])])


def _maps(
    subject: Subject,
    values: Tensor,
    kind: str,
    labels: list[str],
    title: str,
    outlines: list[tuple[int, int, int, int]],
) -> Heatmaps:
    if kind == "pattern":
        return panels.pattern_maps(subject, IDS[kind], title, values, labels, outlines)
    future = torch.ones(values.shape[-2:], dtype=torch.bool).triu(1)
    names = panels.head_names(subject.info.model)
    return panels.signed_maps(
        IDS[kind],
        title,
        names,
        values.masked_fill(future, torch.nan),
        labels,
        labels,
        "query",
        "key",
        outlines=outlines,
    )
