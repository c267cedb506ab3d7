"""Components ablated, or activations patched from one example into another, at every snapshot."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from explorer.analysis import interventions
from explorer.analysis.answers import greedy_answers
from explorer.analysis.components import components, parse_component
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.panel import Panel
from explorer.options import Context, choice, free_text, several
from explorer.tasks.data import Example
from explorer.views import panels
from explorer.views.subject import ROOM, Subject
from explorer.views.view import View, same_labels

MODES: tuple[interventions.AblationMode, ...] = get_args(interventions.AblationMode)
PATCHED: Mapping[str, str] = {
    "heads": "heads",
    "residual": "residual stream",
    "attention": "attention outputs",
    "mlp": "MLP outputs",
}
HOOKS = {"residual": "hook_resid_pre", "attention": "hook_attn_out", "mlp": "hook_mlp_out"}
N_EXAMPLES = 128  # unseen examples on which losses are measured
SHARE_FOR_EACH = 0.5  # of the memory for activations, if each component is ablated in turn
MAX_POSITIONS = 32  # that are patched, unless the examples differ at more
MIN_DIFFERENCE = 0.1  # of the largest logit difference over training; restored shares of smaller ones are not shown


def _is(*methods: str) -> Callable[[Context], bool]:
    """Whether one of these methods is chosen."""
    return lambda context: context.chosen["do"] in methods


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
    mode: interventions.AblationMode = choice("Replace by", same_labels(MODES), when=_is("ablate", "each"))
    exchange: str = choice("Patch", lambda context: patched_activations(context.subject), when=_is("patch"))
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
        lambda context: f"Second {context.subject.task.noun}, into which activations of the first are patched",
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
        note="Activations of the first example are patched into the forward pass on the second: 1 restores the answer "
        "of the first, 0 has no effect.",
    )


class Interventions(View[Options]):
    name, title, icon, place = "interventions", "Interventions", "content_cut", (1, 6)
    options_type = Options

    def unavailable(self, subject: Subject, example: str, options: Options) -> str:
        if options.do != "patch" or options.second.strip():
            return ""
        return f"Type a second {subject.task.noun} of the same form with a different answer."

    def uses_example(self, options: Options) -> bool:
        return options.do != "each"

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        if options.do == "each":
            return ablate_each_film(subject, options.mode)
        if options.do == "patch":
            return patch_film(subject, example, options.second, options.exchange, options.answer or 0)
        return ablation_film(subject, example, options.off, options.mode)


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


def ablation_film(subject: Subject, text: str, ablated: Sequence[str], mode: interventions.AblationMode) -> Film:
    """Answers, losses and attention patterns with some components ablated, beside those of the unchanged model.

    Args:
        subject: the run.
        text: an example of the run's task.
        ablated: the names of components.
        mode: what replaces their outputs.

    Raises:
        UserError: ``text`` is not an example of the run's task, or there is no such component.
    """
    task, example, ensemble = subject.task, subject.task.encode(text), subject.ensemble
    batch = subject.unseen(N_EXAMPLES)
    parts = [parse_component(name, subject.info.model) for name in ablated]
    hooks = interventions.ablation_hooks(ensemble, parts, mode, batch.tokens)
    loss = interventions.losses(ensemble, task, batch)  # (snapshot batch answer)
    ablated_loss = interventions.losses(ensemble, task, batch, hooks)
    label = f"{', '.join(ablated)} ablated ({mode})" if ablated else "nothing ablated"
    means = {"unchanged model": loss.mean((1, 2)), label: ablated_loss.mean((1, 2))}
    title = f"Loss on {len(batch.tokens)} unseen {task.noun}s"
    answers, ablated_answers = greedy_answers(ensemble, example), greedy_answers(ensemble, example, hooks)
    shown: list[Panel] = [
        panels.answer_strip(subject, "answers", "Unchanged model", example, answers),
        panels.answer_strip(subject, "ablated-answers", label[0].upper() + label[1:], example, ablated_answers),
        panels.over_snapshots(subject, "ablated-loss", title, means, unit="nats", span=6, height=280),
    ]
    change = task.per_token(ablated_loss - loss, batch)  # (snapshot token)
    if change.shape[1] > 1:
        by_group = {group: change[:, members].nanmean(1) for group, members in subject.groups.items()}
        title = f"Increase of the loss by {task.token_noun}"
        shown.append(panels.over_snapshots(subject, "loss-increase", title, by_group, unit="nats", span=6, height=280))
    patterns = panels.mean_attention(subject, example.batch, hooks=hooks)
    labels = panels.token_labels(subject, example)
    maps = panels.pattern_maps(
        subject, "patterns", f"Attention patterns, {label}{panels.given(example)}", patterns, labels
    )
    names = [f"{name}, ablated" if name in ablated else name for name in maps.maps]
    return Film(subject.steps, [*shown, replace(maps, maps=names)])


def ablate_each_film(subject: Subject, mode: interventions.AblationMode) -> Film:
    """The increase of the loss when each head or MLP is ablated alone, over training.

    Args:
        subject: the run.
        mode: what replaces the output of the component.
    """
    batch = subject.unseen(N_EXAMPLES, int(SHARE_FOR_EACH * ROOM))
    parts, values = interventions.ablate_each(subject.ensemble, batch, subject.task, mode, batch.tokens)
    noun = subject.task.noun
    title = f"Increase of the loss with each component ablated ({mode}), on {len(batch.tokens)} unseen {noun}s"
    curves = dict(zip(parts, values.unbind(1), strict=True))
    return Film(
        subject.steps,
        [
            panels.timeline(subject),
            panels.over_snapshots(subject, "ablated-each", title, curves, unit="nats", height=360),
        ],
    )


def patch_film(subject: Subject, clean_text: str, corrupted_text: str, patched: str, answer: int) -> Film:
    """Activation patching: the share of the logit difference that is restored by activations of the clean example.

    Args:
        subject: the run.
        clean_text: the first example, whose activations are taken.
        corrupted_text: the second example, into whose forward pass they are patched.
        patched: one of `PATCHED`.
        answer: one of `differing_answers`.

    Raises:
        UserError: a text is no example, or the two cannot be compared.
    """
    task, ensemble = subject.task, subject.ensemble
    clean, corrupted = task.encode(clean_text), task.encode(corrupted_text)
    if answer not in _differing_answers(clean, corrupted):
        raise UserError(f"Both examples have the same right answer at {clean.places[answer]}; choose another answer.")
    clean, corrupted = (_cut_after(example, answer) for example in (clean, corrupted))
    right = f"{task.answer_tokens[clean.targets[answer]]} rather than {task.answer_tokens[corrupted.targets[answer]]}"
    of = f"{right}, {clean.places[answer]}"
    both = torch.stack([clean.tokens, corrupted.tokens])
    first, second = interventions.logit_difference(ensemble, both, clean, corrupted, answer).unbind(1)
    curves = {"clean, first example": first, "corrupted, second example": second}
    title = f"Logit difference for {of}"
    difference = (first - second).abs()
    is_enough = difference >= MIN_DIFFERENCE * difference.max()  # (snapshot,)
    if patched == "heads":
        restored = _restored_by_head(subject, clean, corrupted, answer, is_enough)
    else:
        restored = _restored_by_position(subject, clean, corrupted, answer, is_enough, patched)
    return Film(
        subject.steps,
        [
            panels.timeline(subject),
            panels.over_snapshots(subject, "logit-difference", title, curves, unit="logits", height=200),
            restored,
        ],
    )


def _restored_by_head(subject: Subject, clean: Example, corrupted: Example, answer: int, is_enough: Tensor) -> Panel:
    heads, shares = interventions.patch_heads(subject.ensemble, clean, corrupted, answer)
    title = "Share of the logit difference restored by patching one head from the first example"
    shares = shares.where(is_enough[:, None], torch.nan)  # (snapshot head)
    curves = dict(zip(heads, shares.unbind(1), strict=True))
    return panels.over_snapshots(subject, "patched-heads", title, curves, unit="share", height=320)


def _restored_by_position(
    subject: Subject, clean: Example, corrupted: Example, answer: int, is_enough: Tensor, patched: str
) -> Panel:
    ensemble, n_layers = subject.ensemble, subject.info.model.n_layers
    positions, tokens = _positions(clean, corrupted), panels.token_labels(subject, corrupted)
    hooks = [f"blocks.{layer}.{HOOKS[patched]}" for layer in range(n_layers)]
    shares = torch.stack(
        [interventions.patch_positions(ensemble, clean, corrupted, answer, hook, positions) for hook in hooks], 1
    )  # (snapshot layer position)
    shares = shares.where(is_enough[:, None, None], torch.nan)
    title = f"Share of the logit difference restored by patching the {PATCHED[patched]} at one position"
    rows = [f"layer {layer}" for layer in range(n_layers)]
    columns = [f"{tokens[position]} ({position})" for position in positions]
    return panels.signed_maps(
        "patched-positions", title, [""], shares[:, None], rows, columns, "layer", "position", full_colour_at=1
    )


def patched_activations(subject: Subject) -> dict[str, str]:
    """Those of `PATCHED` that the run's model has, as name -> label.

    Args:
        subject: the run.
    """
    cfg = subject.info.model
    lacking: set[str] = set()
    if cfg.architecture == "table":
        lacking = {"residual", "attention", "mlp"}
    elif cfg.attn_only:
        lacking = {"mlp"}
    return {name: label for name, label in PATCHED.items() if name not in lacking}


def corrupted_examples(subject: Subject, text: str) -> dict[str, str]:
    """Examples of the task that can serve as the corrupted one, as name -> text.

    Args:
        subject: the run.
        text: the clean example.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    task, suitable = subject.task, {}
    clean = task.encode(text)
    for name, other in {**task.siblings(clean), **task.examples}.items():
        with contextlib.suppress(UserError):
            _differing_answers(clean, task.encode(other))
            suitable[name] = other
    return suitable


def differing_answers(subject: Subject, clean_text: str, corrupted_text: str) -> dict[int, str]:
    """The answers that differ between two examples.

    Args:
        subject: the run.
        clean_text: the first example.
        corrupted_text: the second example.

    Returns:
        Index of an answer -> label with the right token of each example.

    Raises:
        UserError: a text is no example, or the two cannot be compared.
    """
    task = subject.task
    clean, corrupted = task.encode(clean_text), task.encode(corrupted_text)

    def right(example: Example, answer: int) -> str:
        return task.answer_tokens[int(example.targets[answer])]

    return {
        answer: f"{clean.places[answer]}: {right(clean, answer)} or {right(corrupted, answer)}"
        for answer in _differing_answers(clean, corrupted)
    }


def _differing_answers(clean: Example, corrupted: Example) -> list[int]:
    same_form = len(clean.tokens) == len(corrupted.tokens) and clean.positions.equal(corrupted.positions)
    if not same_form:
        raise UserError(
            "The two examples have their answers at different positions; type a second one of the same form."
        )
    differs = (clean.targets != corrupted.targets).nonzero().flatten().tolist()
    if not differs:
        raise UserError("Both examples have the same right answers; type a second one with a different answer.")
    return differs


def _cut_after(example: Example, answer: int) -> Example:
    """The example cut off at one of its answers, which later tokens cannot influence."""
    n_pos, answers = int(example.positions[answer]) + 1, slice(answer + 1)
    return replace(
        example,
        tokens=example.tokens[:n_pos],
        positions=example.positions[answers],
        targets=example.targets[answers],
        places=example.places[answers],
    )


def _positions(clean: Example, corrupted: Example) -> list[int]:
    """The positions to patch: those with different tokens, and those after the first of them; if too many, the last.

    Before the first different token all activations are equal.
    """
    differ = (clean.tokens != corrupted.tokens).nonzero().flatten().tolist()
    others = [position for position in range(differ[0], len(clean.tokens)) if position not in differ]
    n_others = max(0, MAX_POSITIONS - len(differ))
    return sorted([*differ, *others[max(0, len(others) - n_others) :]])
