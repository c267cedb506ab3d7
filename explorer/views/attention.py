"""Attention patterns, scores and gradients, and head scores, at every snapshot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.analysis.heads import find_repeats, head_scores, repeated_tokens
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.options import choice
from explorer.tasks.data import Batch, Example
from explorer.views import panels
from explorer.views.subject import ROOM, Subject
from explorer.views.view import View, same_labels


@dataclass(frozen=True)
class Quantity:
    """What is shown of attention."""

    hook: str  # the last part of the hook point's name; with "_grad", its gradient
    id: str  # of the panel
    title: str


QUANTITIES: Mapping[str, Quantity] = {
    "pattern": Quantity("hook_pattern", "patterns", "Attention patterns"),
    "scores": Quantity("hook_attn_scores", "scores", "Attention scores, before softmax"),
    "gradient": Quantity("hook_pattern_grad", "gradients", "Gradient of the loss at attention patterns"),
}
REPEATED_TOKENS, UNSEEN_EXAMPLES = "repeated", "unseen"
DATASETS: Mapping[str, str] = {REPEATED_TOKENS: "repeated random tokens", UNSEEN_EXAMPLES: "unseen examples"}
MIN_REPEAT = 4  # tokens; shorter repeats are not outlined
N_SEQUENCES, MIN_LENGTH = 4, 4  # of repeated random tokens: sequences, and tokens before the repetition


@dataclass(frozen=True)
class Options:
    show: str = choice(
        "Show",
        lambda context: {
            "one": f"one {context.subject.task.noun}",
            "mean": "mean over a batch",
            "heads": "head scores",
        },
    )
    of: str = choice("Quantity", same_labels(QUANTITIES), when=lambda context: context.chosen["show"] != "heads")
    on: str = choice(
        "Measured on", lambda context: datasets(context.subject), when=lambda context: context.chosen["show"] == "heads"
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
    """A quantity of attention on one example. Outlined: where a repeat attends to what followed its first occurrence.

    Args:
        subject: the run.
        text: an example of the run's task.
        kind: one of `QUANTITIES`.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    example = subject.task.encode(text)
    labels = panels.token_labels(subject, example)
    title = f"{QUANTITIES[kind].title} on {panels.brief(example.text)}{panels.given(example)}"
    return _film(subject, example.batch, kind, labels, title, _outlines(example))


def mean_film(subject: Subject, kind: str) -> Film:
    """A quantity of attention, averaged over a batch of unseen examples.

    Args:
        subject: the run.
        kind: one of `QUANTITIES`.
    """
    batch = subject.unseen(room=ROOM // 2 if kind == "gradient" else ROOM)
    labels = [str(position) for position in range(batch.tokens.shape[1])]
    return _film(
        subject, batch, kind, labels, f"{QUANTITIES[kind].title}, mean over {len(batch.tokens)} unseen examples"
    )


def scores_film(subject: Subject, dataset: str) -> Film:
    """The four head scores of every head, over training.

    Args:
        subject: the run.
        dataset: the sequences that they are measured on, one of `DATASETS`.

    Raises:
        UserError: the context or the vocabulary is too small for repeated random tokens.
    """
    tokens = _repeated(subject) if dataset == REPEATED_TOKENS else subject.unseen().tokens
    names = panels.head_names(subject.info.model)
    scores = head_scores(subject.ensemble, tokens)
    curves = [
        panels.over_snapshots(
            subject,
            name.replace(" ", "-"),
            f"{name.capitalize()}{'' if name == 'entropy' else ' score'}, on {DATASETS[dataset]}",
            dict(zip(names, values.unbind(1), strict=True)),
            unit="nats" if name == "entropy" else "share of attention",
            span=6,
        )
        for name, values in scores.items()
    ]
    return Film(subject.steps, [panels.timeline(subject), *curves])


def datasets(subject: Subject) -> Mapping[str, str]:
    """Those of `DATASETS` that fit the context and the vocabulary of the run's model, as name -> label.

    Args:
        subject: the run.
    """
    length = _length(subject)
    if length >= MIN_LENGTH and subject.info.model.d_vocab > length:
        return DATASETS
    return {UNSEEN_EXAMPLES: DATASETS[UNSEEN_EXAMPLES]}


def _length(subject: Subject) -> int:
    """The number of random tokens before the repetition: a third of the context, since heads may never have had to
    attend across half of it."""
    return (subject.info.model.n_ctx - 1) // 3


def _repeated(subject: Subject) -> Tensor:
    """Token 0, which begins sequences, followed by random tokens twice, (batch pos)."""
    cfg = subject.info.model
    if REPEATED_TOKENS not in datasets(subject):
        raise UserError(
            f"This model has {cfg.n_ctx} positions and a vocabulary of {cfg.d_vocab} tokens, too few for repeated "
            f"random tokens; choose {DATASETS[UNSEEN_EXAMPLES]} instead."
        )
    tokens = repeated_tokens(cfg.d_vocab, _length(subject), N_SEQUENCES)
    return torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1)


def _outlines(example: Example) -> list[tuple[int, int, int, int]]:
    """(query, key, height, width) of the attention of each repeat to the tokens that followed its first occurrence,
    where induction heads attend."""
    repeats = find_repeats(example.tokens, MIN_REPEAT)
    return [(again, first + 1, length, length) for first, again, length in repeats]


def _film(
    subject: Subject,
    batch: Batch,
    kind: str,
    labels: list[str],
    title: str,
    outlines: Sequence[tuple[int, int, int, int]] = (),
) -> Film:
    quantity = QUANTITIES[kind]
    values = panels.mean_attention(subject, batch, quantity.hook)
    if kind == "pattern":
        maps = panels.pattern_maps(subject, quantity.id, title, values, labels, outlines)
    else:
        values = panels.masked_future(values)
        heads = panels.head_names(subject.info.model)
        maps = panels.signed_maps(quantity.id, title, heads, values, labels, labels, "query", "key", outlines=outlines)
    return Film(subject.steps, [panels.timeline(subject), maps])
