"""Attention patterns, scores and gradients, and head scores, at every snapshot."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from explorer.analysis.heads import find_repeats, head_scores, occurrence_losses, repeated_tokens
from explorer.analysis.samples import Estimate
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.options import choice
from explorer.tasks.data import Batch, Example
from explorer.views import looking, panels, sampling
from explorer.views.classes import labels_of_classes, of_class
from explorer.views.sampling import MOST, SampledView, grown, only
from explorer.views.subject import Subject
from explorer.views.view import same_labels


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
IN_CONTEXT = "in context"
DATASETS: Mapping[str, str] = {REPEATED_TOKENS: "repeated random tokens", UNSEEN_EXAMPLES: "unseen examples"}
OUTLINED = "where a repeat attends to what followed its first occurrence"
MIN_REPEAT = 4  # tokens; shorter repeats are not outlined
MIN_LENGTH = 4  # tokens of a repeated random sequence before the repetition
MIN_POSITIONS = 8  # of a text; with fewer, head scores rest on one or two queries


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
    among: str = choice(
        "Mean over",
        lambda context: among(context.subject),
        widget="list",
        when=lambda context: context.chosen["show"] == "mean" and len(among(context.subject)) > 1,
    )
    on: str = choice(
        "Measured on", lambda context: datasets(context.subject), when=lambda context: context.chosen["show"] == "heads"
    )


class Heads(SampledView[Options]):
    name, title, icon, order = "heads", "Heads", "grid_on", 3
    heading = "Where does each head look?"
    sentence = (
        "One map per head: a row is a query position, a column a key position that it may attend to, and "
        "darker is more attention. Head scores measure the same over many texts."
    )
    options_type = Options

    def uses_example(self, subject: Subject, options: Options) -> bool:
        return options.show == "one"

    def unavailable(self, subject: Subject, example: str, options: Options) -> str:
        n_ctx = subject.info.model.n_ctx
        if options.show != "heads" or n_ctx >= MIN_POSITIONS:
            return ""
        return (
            f"Head scores have no meaning for this run: a {subject.task.noun} has only {n_ctx} tokens, so they would "
            f"rest on a single query. Choose a run with longer texts, such as one of induction heads."
        )

    def films(
        self, subject: Subject, example: str, options: Options, second: Subject | None = None
    ) -> Iterator[tuple[Film, float]]:
        if options.show == "heads":
            return scores_films(subject, options.on)
        if options.show == "mean":
            return only(mean_film(subject, options.of, options.among))
        return only(example_film(subject, example, options.of))

    def look(self, subject: Subject, film: Film) -> Sequence[str]:
        return looking.highest(film, "prefix-matching", "induction score") or looking.largest_change(film)


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


def mean_film(subject: Subject, kind: str, among: str = UNSEEN_EXAMPLES) -> Film:
    """A quantity of attention, averaged over a batch of unseen examples.

    Args:
        subject: the run.
        kind: one of `QUANTITIES`.
        among: which examples: "unseen", all that there are, or the name of one of the task's classes.

    Raises:
        UserError: every example of the class is in the training data.
    """
    batch = subject.unseen() if among == UNSEEN_EXAMPLES else of_class(subject, among)
    labels = [str(position) for position in range(batch.tokens.shape[1])]
    suffix = "" if among == UNSEEN_EXAMPLES else f" of the class {labels_of_classes(subject)[among]}"
    title = f"{QUANTITIES[kind].title}, mean over {len(batch.tokens)} unseen examples{suffix}"
    return _film(subject, batch, kind, labels, title)


def among(subject: Subject) -> dict[str, str]:
    """The examples over which means can be taken, as name -> label: all unseen ones, and those of each class.

    Args:
        subject: the run.
    """
    return {UNSEEN_EXAMPLES: DATASETS[UNSEEN_EXAMPLES], **labels_of_classes(subject)}


def scores_films(subject: Subject, dataset: str) -> Iterator[tuple[Film, float]]:
    """The four head scores of every head, and the loss in context if the task repeats something, over training.

    Args:
        subject: the run.
        dataset: the sequences that they are measured on, one of `DATASETS`.

    Yields:
        As `sampling.grown`.

    Raises:
        UserError: the context or the vocabulary is too small for repeated random tokens.
    """
    names = panels.head_names(subject.info.model)
    sample = repeated_sequences(subject) if dataset == REPEATED_TOKENS else subject.unseen(MOST)
    is_unseen = dataset != REPEATED_TOKENS

    def measure(batch: Batch) -> dict[str, Tensor]:
        scores = head_scores(subject.ensemble, batch.tokens)
        occurrences = subject.task.occurrences(batch) if is_unseen else None
        if occurrences is None:
            return scores
        losses = occurrence_losses(subject.ensemble, batch.tokens, occurrences)  # (snapshot occurrence batch)
        return {**scores, IN_CONTEXT: torch.cat([losses, losses[:, -1:] - losses[:, :1]], 1)}

    def draw(found: Mapping[str, Estimate]) -> Film:
        on = sampling.size(subject, found["entropy"].n, "" if is_unseen else "sequences of repeated random tokens")
        shown = [
            sampling.curves(
                subject,
                name.replace(" ", "-"),
                f"{name.capitalize()}{'' if name == 'entropy' else ' score'}, {on}",
                names,
                found[name],
                unit="nats" if name == "entropy" else "share of attention",
                span=6,
            )
            for name in found
            if name != IN_CONTEXT
        ]
        if IN_CONTEXT in found:
            n = found[IN_CONTEXT].mean.shape[1] - 1
            curves = [*(f"occurrence {i}" for i in range(1, n + 1)), f"score: occurrence {n} − occurrence 1"]
            title = f"In-context score: loss of the same tokens at each occurrence, {on}"
            shown.append(sampling.curves(subject, "in-context", title, curves, found[IN_CONTEXT], "nats"))
        return Film(subject.steps, [panels.timeline(subject), *shown])

    return grown(subject, sample, measure, draw)


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


def repeated_sequences(subject: Subject) -> Batch:
    """Token 0, which begins sequences, followed by random tokens twice. There are no answers.

    Args:
        subject: the run.

    Raises:
        UserError: the context or the vocabulary of its model is too small.
    """
    cfg = subject.info.model
    if REPEATED_TOKENS not in datasets(subject):
        raise UserError(
            f"This model has {cfg.n_ctx} positions and a vocabulary of {cfg.d_vocab} tokens, too few for repeated "
            f"random tokens; choose {DATASETS[UNSEEN_EXAMPLES]} instead."
        )
    tokens = repeated_tokens(cfg.d_vocab, _length(subject), MOST)
    none = tokens[:, :0]
    return Batch(torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1), none, none)


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
    return Film(subject.steps, [panels.timeline(subject), replace(maps, outlined=OUTLINED if outlines else "")])
