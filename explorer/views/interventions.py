"""Components ablated, or activations patched from one example into another, at every snapshot."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from explorer.analysis import interventions
from explorer.analysis.answers import greedy_answers
from explorer.analysis.components import components, parse_component
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.scene import Context, choice, several, words
from explorer.tasks.data import Example
from explorer.views import panels
from explorer.views.subject import ROOM, Subject
from explorer.views.view import View, same_labels

MODES = ("zero", "mean")
PATCHES: Mapping[str, str] = {
    "heads": "heads",
    "residual": "residual stream",
    "attention": "attention outputs",
    "mlp": "MLP outputs",
}
PLACES = {"residual": "hook_resid_pre", "attention": "hook_attn_out", "mlp": "hook_mlp_out"}
MEASURED = 128  # unseen examples on which losses are measured
EACH = 0.5  # of that, where each component is ablated by itself
MOST_POSITIONS = 32  # at which activations are exchanged, where the examples do not differ in more
LEAST_DIFFERENCE = 0.1  # of the largest over training: where two examples differ less, a share of it says nothing


def _is(*kinds: str) -> Callable[[Context], bool]:
    """Whether one of these interventions is chosen."""
    return lambda context: context.chosen["do"] in kinds


def _second_placeholder(context: Context) -> str:
    return f"A second {context.subject.task.noun}, of the same form"


def _suggested(context: Context) -> dict[str, str]:
    return {text: name for name, text in partners(context.subject, context.example).items()}


def _check_second(context: Context, text: str) -> None:
    """Raises UserError where ``text`` cannot be compared with the example; nothing typed is no mistake."""
    if text.strip():
        telling(context.subject, context.example, text)


def _differing(context: Context) -> dict[int, str]:
    second = context.chosen["second"]
    return telling(context.subject, context.example, second) if second.strip() else {}


@dataclass(frozen=True)
class Options:
    do: str = choice("Do", {"ablate": "ablate", "each": "each by itself", "patch": "patch"})
    mode: str = choice("In its place", same_labels(MODES), when=_is("ablate", "each"))
    exchange: str = choice("Exchange", lambda context: patches(context.subject), when=_is("patch"))
    off: tuple[str, ...] = several(
        "Ablate",
        lambda context: same_labels(names(context.subject)),
        preferred=lambda context: names(context.subject)[:1],
        placeholder=lambda context: _off_placeholder(context.subject),
        parse_other=lambda context, text: check(context.subject, text),
        place="after",
        when=_is("ablate"),
    )
    second: str = words(
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
        note="Activations of the first example are patched into the run on the second: 1 restores the answer of the "
        "first, 0 changes nothing.",
    )


class Interventions(View[Options]):
    name, title, icon, place = "interventions", "Interventions", "content_cut", (1, 6)
    options_type = Options

    def unavailable(self, subject: Subject, example: str, options: Options) -> str:
        if options.do != "patch" or options.second.strip():
            return ""
        return (
            f"Type a second {subject.task.noun} that asks at the same positions as the first and has other right "
            f"answers."
        )

    def uses_example(self, options: Options) -> bool:
        return options.do != "each"

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        if options.do == "each":
            return each_film(subject, options.mode)
        if options.do == "patch":
            return patch_film(subject, example, options.second, options.exchange, options.answer or 0)
        return off_film(subject, example, options.off, options.mode)


def _off_placeholder(subject: Subject) -> str:
    neurons = neuron_example(subject)
    return "heads and MLPs" + (f"; type a neuron, {neurons}" if neurons else "")


def names(subject: Subject) -> tuple[str, ...]:
    """The heads and MLPs there are; neurons, of which there are many, are named L0N17."""
    return tuple(component.name for component in components(subject.info.model))


def neuron_example(subject: Subject) -> str:
    """What the name of a neuron looks like; empty where there are none."""
    cfg = subject.info.model
    return "" if cfg.attn_only or cfg.architecture == "table" else f"L0N0 to L{cfg.n_layers - 1}N{cfg.d_mlp - 1}"


def check(subject: Subject, name: str) -> str:
    """The usual spelling of a component that somebody typed.

    Raises:
        UserError: there is no such component.
    """
    return parse_component(name, subject.info.model).name


def off_film(subject: Subject, text: str, off: Sequence[str], mode: str) -> Film:
    """Answers, losses and attention without some components, beside those of the whole model.

    Args:
        off: names of components.
        mode: one of `MODES`: what takes the place of their output.

    Raises:
        UserError: ``text`` is not an example of the run's task, or there is no such component.
    """
    task, example, ensemble = subject.task, subject.task.encode(text), subject.ensemble
    batch = subject.unseen(MEASURED)
    parts = [parse_component(name, subject.info.model) for name in off]
    hooks = interventions.ablation_hooks(ensemble, parts, mode, batch.tokens)
    whole = interventions.losses(ensemble, task, batch)  # (snapshot batch answer)
    without = interventions.losses(ensemble, task, batch, hooks)
    said = "with nothing ablated"
    if off:
        said = f"without {', '.join(off)}" if mode == "zero" else f"with the mean of {', '.join(off)}"
    means = {"whole": whole.mean((1, 2)), said: without.mean((1, 2))}
    title = f"Loss on {len(batch.tokens)} unseen {task.noun}s"
    found = [
        panels.answer_strip(subject, "answers", "The whole model", example, greedy_answers(ensemble, example)),
        panels.answer_strip(
            subject, "ablated-answers", said[0].upper() + said[1:], example, greedy_answers(ensemble, example, hooks)
        ),
        panels.over_snapshots(subject, "ablated-loss", title, means, unit="nats", span=6, height=280),
    ]
    change = task.per_token(without - whole, batch)  # (snapshot token)
    if change.shape[1] > 1:
        by_group = {group: change[:, members].nanmean(1) for group, members in subject.groups.items()}
        title = f"Increase of the loss of each {task.token_noun}"
        found.append(panels.over_snapshots(subject, "loss-increase", title, by_group, unit="nats", span=6, height=280))
    patterns = panels.mean_attention(subject, example.batch, hooks=hooks)
    labels = panels.token_labels(subject, example)
    maps = panels.pattern_maps(
        subject, "patterns", f"Attention patterns, {said}{panels.given(example)}", patterns, labels
    )
    named = [f"{name}, ablated" if name in off else name for name in maps.maps]
    return Film(subject.steps, [*found, replace(maps, maps=named)])


def each_film(subject: Subject, mode: str) -> Film:
    """What each head and MLP is worth, over training: the loss without it, less the loss with it."""
    batch = subject.unseen(MEASURED, int(EACH * ROOM))
    parts, values = interventions.ablate_each(subject.ensemble, batch, subject.task, mode, batch.tokens)
    title = f"Loss without each component ({mode}), less the loss with it, on {len(batch.tokens)} unseen "
    title += f"{subject.task.noun}s"
    curves = dict(zip(parts, values.unbind(1), strict=True))
    return Film(
        subject.steps,
        [
            panels.timeline(subject),
            panels.over_snapshots(subject, "ablated-each", title, curves, unit="nats", height=360),
        ],
    )


def patch_film(subject: Subject, clean_text: str, corrupted_text: str, what: str, answer: int) -> Film:
    """Activations of one example put into another: how much of the first one's answer comes back.

    Args:
        what: one of `PATCHES`.
        answer: one of those that `telling` gives.

    Raises:
        UserError: a text is no example, or the two cannot be compared.
    """
    task, ensemble = subject.task, subject.ensemble
    clean, corrupted = task.encode(clean_text), task.encode(corrupted_text)
    if answer not in _telling(clean, corrupted):
        raise UserError(f"Both examples have the same right answer at {clean.places[answer]}; choose another.")
    clean, corrupted = (_until(example, answer) for example in (clean, corrupted))
    right = f"{task.answer_tokens[clean.targets[answer]]} rather than {task.answer_tokens[corrupted.targets[answer]]}"
    of = f"{right}, {clean.places[answer]}"
    both = torch.stack([clean.tokens, corrupted.tokens])
    first, second = interventions.logit_difference(ensemble, both, clean, corrupted, answer).unbind(1)
    ends = {"first example": first, "second example": second}
    found = [
        panels.timeline(subject),
        panels.over_snapshots(
            subject, "logit-difference", f"Logit difference for {of}", ends, unit="logits", height=200
        ),
    ]
    way = (first - second).abs()
    telling = (way >= LEAST_DIFFERENCE * way.max())[:, None]  # (snapshot 1)
    if what == "heads":
        heads, share = interventions.patch_heads(ensemble, clean, corrupted, answer)
        title = "Share that comes back with one head's output taken from the first example"
        share = share.where(telling, torch.nan)
        curves = dict(zip(heads, share.unbind(1), strict=True))
        found.append(panels.over_snapshots(subject, "patched-heads", title, curves, unit="share", height=320))
        return Film(subject.steps, found)
    hooks = [f"blocks.{layer}.{PLACES[what]}" for layer in range(subject.info.model.n_layers)]
    positions = _positions(clean, corrupted)
    labels = panels.token_labels(subject, corrupted)
    shares = torch.stack(
        [interventions.patch_positions(ensemble, clean, corrupted, answer, hook, positions) for hook in hooks], 1
    )  # (snapshot layer position)
    title = f"Share that comes back with the {PATCHES[what]} at one position taken from the first example"
    columns = [f"{labels[position]} ({position})" for position in positions]
    rows = [f"layer {layer}" for layer in range(len(hooks))]
    shares = shares.where(telling[..., None], torch.nan)
    found.append(
        panels.signed_maps("patched-positions", title, [""], shares[:, None], rows, columns, "into", "position", most=1)
    )
    return Film(subject.steps, found)


def patches(subject: Subject) -> dict[str, str]:
    """Those of `PATCHES` that this run's model has."""
    cfg = subject.info.model
    lacking = set()
    if cfg.architecture == "table":
        lacking = {"residual", "attention", "mlp"}
    elif cfg.attn_only:
        lacking = {"mlp"}
    return {what: label for what, label in PATCHES.items() if what not in lacking}


def partners(subject: Subject, text: str) -> dict[str, str]:
    """Named examples that can be compared with this one."""
    task, found = subject.task, {}
    clean = task.encode(text)
    for name, other in {**task.siblings(clean), **task.examples}.items():
        with contextlib.suppress(UserError):
            _telling(clean, task.encode(other))
            found[name] = other
    return found


def telling(subject: Subject, clean_text: str, corrupted_text: str) -> dict[int, str]:
    """The answers in which two examples differ, by what they are called and what is right in each.

    Raises:
        UserError: a text is no example, or the two cannot be compared.
    """
    task = subject.task
    clean, corrupted = task.encode(clean_text), task.encode(corrupted_text)

    def right(example: Example, answer: int) -> str:
        return task.answer_tokens[int(example.targets[answer])]

    return {
        answer: f"{clean.places[answer]}: {right(clean, answer)} or {right(corrupted, answer)}"
        for answer in _telling(clean, corrupted)
    }


def _telling(clean: Example, corrupted: Example) -> list[int]:
    same_form = len(clean.tokens) == len(corrupted.tokens) and clean.positions.equal(corrupted.positions)
    if not same_form:
        raise UserError("The two examples ask at different places; type a second one of the same form.")
    differs = (clean.targets != corrupted.targets).nonzero().flatten().tolist()
    if not differs:
        raise UserError("Both examples have the same right answers; type a second one whose answer is another.")
    return differs


def _until(example: Example, answer: int) -> Example:
    """The example as far as one of its answers, of which nothing later is a cause."""
    upto, few = int(example.positions[answer]) + 1, slice(answer + 1)
    return replace(
        example,
        tokens=example.tokens[:upto],
        positions=example.positions[few],
        targets=example.targets[few],
        places=example.places[few],
    )


def _positions(clean: Example, corrupted: Example) -> list[int]:
    """Where the examples differ, and after the first such position, before which nothing does; of many, the last."""
    differ = (clean.tokens != corrupted.tokens).nonzero().flatten().tolist()
    others = [position for position in range(differ[0], len(clean.tokens)) if position not in differ]
    room = max(0, MOST_POSITIONS - len(differ))
    return sorted([*differ, *others[len(others) - min(room, len(others)) :]])
