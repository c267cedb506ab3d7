"""Components ablated, or activations patched from one example into another, at every snapshot."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from explorer.analysis import ablation
from explorer.analysis.answers import greedy_answers
from explorer.analysis.components import Component, components, parse_component
from explorer.analysis.samples import Estimate
from explorer.film.film import Film
from explorer.model.ensemble import Hooks
from explorer.options import Context, choice, free_text, several
from explorer.tasks.data import Batch
from explorer.views import looking, panels, paths, sampling
from explorer.views.patching import corrupted_examples, differing_answers, patch_film, patched_activations
from explorer.views.sampling import MOST, SampledView, grown, only
from explorer.views.subject import Subject
from explorer.views.view import same_labels

REPLACEMENTS = ("zero", "mean")
REFERENCE = 256  # unseen examples over which means are taken, none of which is measured
REPLICATES = 8  # parts of these, from whose means the error of the mean of all follows
PATHS = "paths"  # what is patched, if not an activation
PROBE = slice(8)  # the examples of the sample on which that error is measured


def _is(*methods: str) -> Callable[[Context], bool]:
    """Whether one of these methods is chosen."""
    return lambda context: context.chosen["do"] in methods


def _direction(context: Context) -> tuple[str, str]:
    """Which example is patched into which, for the label of the second, and what the shares mean."""
    if context.chosen["exchange"] == PATHS:
        return (
            "whose activations are patched into the first",
            "One component reads what another writes on the second example: 1 loses the answer of the first, 0 has no "
            "effect.",
        )
    return (
        "into which activations of the first are patched",
        "Activations of the first example are patched into the forward pass on the second: 1 restores the answer "
        "of the first, 0 has no effect.",
    )


def _second_placeholder(context: Context) -> str:
    return f"A second {context.subject.task.noun}, of the same form"


def _suggested(context: Context) -> dict[str, str]:
    return {text: name for name, text in corrupted_examples(context.subject, context.example).items()}


def _check_second(context: Context, text: str) -> None:
    """Raises UserError if ``text`` cannot be compared with the example; an empty text is allowed."""
    if text.strip():
        differing_answers(context.subject, context.example, text)


def _differing(context: Context) -> dict[int, str]:
    second = context.chosen["second"]
    return differing_answers(context.subject, context.example, second) if second.strip() else {}


@dataclass(frozen=True)
class Options:
    do: str = choice("Method", {"ablate": "ablate", "each": "ablate each", "patch": "patch"})
    mode: str = choice("Replace by", same_labels(REPLACEMENTS), when=_is("ablate", "each"))
    exchange: str = choice("Patch", lambda context: exchanged(context.subject), when=_is("patch"))
    off: tuple[str, ...] = several(
        "Ablate",
        lambda context: same_labels(component_names(context.subject)),
        preferred=lambda context: component_names(context.subject)[:1],
        placeholder=lambda context: _ablated_placeholder(context.subject),
        parse_other=lambda context, text: canonical_name(context.subject, text),
        place="after",
        when=_is("ablate"),
    )
    second: str = free_text(
        lambda context: f"Second {context.subject.task.noun}, {_direction(context)[0]}",
        _check_second,
        suggestions=_suggested,
        placeholder=_second_placeholder,
        place="after",
        when=_is("patch"),
    )
    answer: int | None = choice(
        "Answer",
        _differing,
        widget="list",
        place="after",
        when=lambda context: context.chosen["do"] == "patch" and bool(context.chosen["second"].strip()),
        note=lambda context: _direction(context)[1],
    )


class CutIt(SampledView[Options]):
    name, title, icon, order = "cut", "Cut it", "content_cut", 9
    heading = "What breaks when a part is cut?"
    sentence = (
        "A head, a neuron or an MLP is ablated, or replaced by its value on another example, everywhere or on one "
        "path, and the loss and the answer are measured again."
    )
    growing = "Measuring on more examples, or at more snapshots…"
    options_type = Options

    def unavailable(self, subject: Subject, example: str, options: Options) -> str:
        if options.do != "patch" or options.second.strip():
            return ""
        return f"Type a second {subject.task.noun} of the same form with a different answer."

    def look(self, subject: Subject, film: Film) -> Sequence[str]:
        cut = "{name}: the loss is {value} nats; that of the unchanged model is {first}."
        return (
            paths.told(film)
            or looking.beside_the_first(film, "ablated-loss", cut)
            or looking.highest(film, "ablated-each", "increase of the loss when ablated")
            or looking.largest_change(film)
        )

    def uses_example(self, subject: Subject, options: Options) -> bool:
        return options.do != "each"

    def films(
        self, subject: Subject, example: str, options: Options, second: Subject | None = None
    ) -> Iterator[tuple[Film, float]]:
        if options.do == "each":
            return ablate_each_films(subject, options.mode)
        if options.do == "ablate":
            return ablation_films(subject, example, options.off, options.mode)
        if options.exchange == PATHS:
            return paths.path_films(subject, example, options.second, options.answer or 0)
        return only(patch_film(subject, example, options.second, options.exchange, options.answer or 0))


def exchanged(subject: Subject) -> dict[str, str]:
    """What can be patched in the run's model, as name -> label: activations, or paths between components.

    Args:
        subject: the run.
    """
    has_paths = subject.info.model.architecture != "table"
    return patched_activations(subject) | ({PATHS: "paths"} if has_paths else {})


def _ablated_placeholder(subject: Subject) -> str:
    neurons = neuron_range(subject)
    return "heads and MLPs" + (f"; type a neuron, {neurons}" if neurons else "")


def component_names(subject: Subject) -> tuple[str, ...]:
    """The names of all heads and MLPs.

    Args:
        subject: the run.
    """
    return tuple(component.name for component in components(subject.info.model))


def neuron_range(subject: Subject) -> str:
    """The names of the first and the last neuron, "L0N0 to L1N511"; empty for a model without MLPs.

    Args:
        subject: the run.
    """
    cfg = subject.info.model
    return "" if cfg.attn_only or cfg.architecture == "table" else f"L0N0 to L{cfg.n_layers - 1}N{cfg.d_mlp - 1}"


def canonical_name(subject: Subject, name: str) -> str:
    """The canonical name of a component.

    Args:
        subject: the run.
        name: as typed, "l0n17".

    Raises:
        UserError: there is no such component.
    """
    return parse_component(name, subject.info.model).name


def ablation_films(
    subject: Subject, text: str, ablated: Sequence[str], replacement: str
) -> Iterator[tuple[Film, float]]:
    """Answers, losses and attention patterns with some components ablated, beside those of the unchanged model.

    Args:
        subject: the run.
        text: an example of the run's task.
        ablated: the names of components.
        replacement: what replaces their outputs, one of `REPLACEMENTS`.

    Yields:
        As `sampling.grown`.

    Raises:
        UserError: ``text`` is not an example of the run's task, or there is no such component.
    """
    task, example, ensemble = subject.task, subject.task.encode(text), subject.ensemble
    parts = [parse_component(name, subject.info.model) for name in ablated]
    replicates, sample = _replicates_and_sample(subject, parts, replacement)
    hooks = ablation.ablation_hooks(ensemble, parts, _mean_of(replicates))
    label = f"{', '.join(ablated)} ablated ({replacement})" if ablated else "nothing ablated"
    answers, ablated_answers = greedy_answers(ensemble, example), greedy_answers(ensemble, example, hooks)
    maps = panels.pattern_maps(
        subject,
        "patterns",
        f"Attention patterns, {label}{panels.given(example)}",
        panels.mean_attention(subject, example.batch, hooks=hooks),
        panels.token_labels(subject, example),
    )
    maps = replace(maps, maps=[f"{name}, ablated" if name in ablated else name for name in maps.maps])
    strips = [
        panels.answer_strip(subject, "answers", "Unchanged model", example, answers),
        panels.answer_strip(subject, "ablated-answers", label[0].upper() + label[1:], example, ablated_answers),
    ]

    def measured(batch: Batch, hooks: Hooks) -> dict[str, Tensor]:
        before = ablation.losses(ensemble, task, batch)  # (snapshot batch answer)
        after = ablation.losses(ensemble, task, batch, hooks)
        return {
            "loss": torch.stack([before, after], 1).mean(-1),  # (snapshot 2 batch)
            "increase": _by_group(subject, after - before, batch),  # (snapshot group batch)
        }

    def draw(found: Mapping[str, Estimate]) -> Film:
        on, names = sampling.size(subject, found["loss"].n), ["unchanged model", label]
        losses = sampling.curves(subject, "ablated-loss", f"Loss {on}", names, found["loss"], "nats", 6, 280)
        title = f"Increase of the loss{f' by {task.token_noun}' if len(subject.groups) > 1 else ''} {on}"
        groups = list(subject.groups)
        increase = sampling.curves(subject, "loss-increase", title, groups, found["increase"], "nats", 6, 280)
        return Film(subject.steps, [*strips, losses, increase, maps])

    errors = _errors(
        lambda means: measured(sample.rows(PROBE), ablation.ablation_hooks(ensemble, parts, means)), replicates
    )
    return grown(subject, sample, lambda batch: measured(batch, hooks), draw, passes=2, errors=errors)


def ablate_each_films(subject: Subject, replacement: str) -> Iterator[tuple[Film, float]]:
    """The increase of the loss when each head or MLP is ablated alone, over training.

    Args:
        subject: the run.
        replacement: what replaces the output of the component, one of `REPLACEMENTS`.

    Yields:
        As `sampling.grown`.
    """
    every = components(subject.info.model)
    replicates, sample = _replicates_and_sample(subject, every, replacement)
    means = _mean_of(replicates)

    def measured(batch: Batch, means: ablation.Means) -> dict[str, Tensor]:
        return {"increase": ablation.ablate_each(subject.ensemble, subject.task, batch, means)}

    def draw(found: Mapping[str, Estimate]) -> Film:
        increase, names = found["increase"], [component.name for component in every]
        title = (
            f"Increase of the loss with each component ablated ({replacement}), {sampling.size(subject, increase.n)}"
        )
        shown = sampling.curves(subject, "ablated-each", title, names, increase, "nats", height=360)
        return Film(subject.steps, [panels.timeline(subject), shown])

    errors = _errors(lambda means: measured(sample.rows(PROBE), means), replicates)
    passes = 1 + len(every) // 3  # much is shared
    return grown(subject, sample, lambda batch: measured(batch, means), draw, passes, errors=errors)


def _replicates_and_sample(
    subject: Subject, of: Sequence[Component], replacement: str
) -> tuple[list[ablation.Means], Batch]:
    """The means of components over each of `REPLICATES` equal parts of the reference, and other unseen examples, on
    which effects are measured. There are no means if zero replaces the outputs."""
    unseen = subject.unseen(REFERENCE + MOST)
    n = max(1, min(REFERENCE, len(unseen.tokens) // 2))
    n -= n % REPLICATES if n > REPLICATES else 0  # so that the parts are equal
    parts = unseen.tokens[:n].chunk(REPLICATES) if replacement == "mean" else ()
    means = [ablation.mean_outputs(subject.ensemble, of, tokens) for tokens in parts if len(of)]
    return means, unseen.rows(slice(n, n + MOST))


def _mean_of(replicates: Sequence[ablation.Means]) -> ablation.Means:
    """The means over the whole reference."""
    names = replicates[0] if replicates else ()
    return {name: torch.stack([means[name] for means in replicates]).mean(0) for name in names}


def _errors(
    measured: Callable[[ablation.Means], Mapping[str, Tensor]], replicates: Sequence[ablation.Means]
) -> dict[str, Tensor]:
    """The standard errors that values have because the mean that replaces an output is that of a sample.

    Args:
        measured: means -> values of the same few examples, by name, (... example).
        replicates: means over equal parts of the reference. Those over all of it vary as much as theirs, divided by the
            square root of their number.
    """
    found = [measured(means) for means in replicates]
    if not found:
        return {}
    by_part = {name: torch.stack([values[name].nanmean(-1) for values in found]) for name in found[0]}
    errors = {name: values.std(0) / math.sqrt(len(found)) for name, values in by_part.items()}
    # A group that occurs in none of the examples has the largest error of the others.
    return {name: error.where(~error.isnan(), error.nan_to_num(0).amax(1, True)) for name, error in errors.items()}


def _by_group(subject: Subject, losses: Tensor, batch: Batch) -> Tensor:
    """Losses (snapshot batch answer) of each example as means over the answers of each group, (snapshot group batch);
    nan where an example has no answer of a group."""
    task, n = subject.task, len(batch.tokens)
    one_by_one = [task.per_token(losses[:, i : i + 1], batch.rows(slice(i, i + 1))) for i in range(n)]
    tokens = torch.stack(one_by_one, -1)  # (snapshot token batch)
    return torch.stack([tokens[:, members].nanmean(1) for members in subject.groups.values()], 1)
