"""QK and OV circuits, composition and singular values, from the weights alone, at every snapshot."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import einops

from explorer.analysis import circuits
from explorer.film.film import Film
from explorer.film.panels.columns import Columns
from explorer.film.panels.panel import Panel
from explorer.options import Context, choice
from explorer.views import panels
from explorer.views.subject import Subject
from explorer.views.view import View

MOST_TOKENS = 300  # with more, circuits are between the tokens of the example
MOST_POSITIONS = 128  # the first of them are shown


def _layers(context: Context) -> dict[int, str]:
    return {layer: f"layer {layer}" for layer in range(context.subject.info.model.n_layers)}


@dataclass(frozen=True)
class Options:
    show: str = choice("Show", lambda context: available(context.subject))
    layer: int = choice("Layer", _layers, when=lambda context: context.chosen["show"] in BY_LAYER)


class Circuits(View[Options]):
    name, title, icon, order = "circuits", "Circuits", "schema", 6
    inside = True
    heading = "What do the weights alone say?"
    sentence = (
        "The QK circuit says which tokens a head attends to, the OV circuit what it writes when it does; no "
        "text is needed for either."
    )
    options_type = Options

    def uses_example(self, subject: Subject, options: Options) -> bool:
        return options.show in BY_EXAMPLE or (options.show in BY_TOKENS and not _shows_all(subject))

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        return film(subject, options.show, options.layer, example)


def film(subject: Subject, circuit: str, layer: int, text: str) -> Film:
    """The panels of one circuit.

    Args:
        subject: the run.
        circuit: one of `CIRCUITS`.
        layer: whose heads, for circuits shown one layer at a time; clipped to the last.
        text: an example of the run's task; its first answer position is the query of the trigram table.

    Raises:
        UserError: ``text`` is not an example of the run's task, or the model has no such circuit.
    """
    layer = min(layer, subject.info.model.n_layers - 1)
    return Film(subject.steps, [panels.timeline(subject), *CIRCUITS[circuit].panels(subject, layer, text)])


def _shows_all(subject: Subject) -> bool:
    return subject.info.model.d_vocab <= MOST_TOKENS


def _shown(subject: Subject, text: str) -> list[int] | None:
    """The tokens between which a circuit is shown: None for all, or those of the text where there are too many."""
    if _shows_all(subject):
        return None
    return sorted(set(subject.task.encode(text).tokens.tolist()))


def _written(tokens: Sequence[str], some: list[int] | None) -> Sequence[str]:
    return tokens if some is None else [tokens[token] for token in some]


def _qk(subject: Subject, layer: int, text: str) -> list[Panel]:
    some = _shown(subject, text)
    values = circuits.qk_circuit(subject.ensemble, layer, some)
    tokens, heads = _written(subject.task.tokens, some), panels.head_names(subject.info.model, [layer])
    title = "Full QK circuit: attention scores between tokens, without positions"
    return [panels.signed_maps("qk", title, heads, values, tokens, tokens, "query", "key")]


def _qk_positions(subject: Subject, layer: int, text: str) -> list[Panel]:
    values = circuits.positional_qk_circuit(subject.ensemble, layer, MOST_POSITIONS)
    positions = [str(position) for position in range(values.shape[-1])]
    heads = panels.head_names(subject.info.model, [layer])
    title = "QK circuit of positions: attention scores between positions, without tokens"
    return [panels.signed_maps("qk-positions", title, heads, values, positions, positions, "query", "key")]


def _ov(subject: Subject, layer: int, text: str) -> list[Panel]:
    some = _shown(subject, text)
    values = circuits.ov_circuit(subject.ensemble, layer, some, some)
    heads = panels.head_names(subject.info.model, [layer])
    tokens, logits = _written(subject.task.tokens, some), _written(subject.task.answer_tokens, some)
    title = "Full OV circuit: what attention to a token adds to each logit on the direct path"
    return [panels.signed_maps("ov", title, heads, values, tokens, logits, "attended token", "logit")]


def _trigrams(subject: Subject, layer: int, text: str) -> list[Panel]:
    """From the example's first answer position: the attention score of each token, and what attention to it adds."""
    example = subject.task.encode(text)
    position = int(example.positions[0])
    # The first answer is always predicted at a position of the prompt.
    token = int(example.tokens[position])
    some = _shown(subject, text)
    scores = circuits.scores_from_token(subject.ensemble, layer, token, position, some)  # (snapshot head token)
    outputs = circuits.ov_circuit(subject.ensemble, layer, some, some)
    heads = panels.head_names(subject.info.model, [layer])
    tokens = _written(subject.task.tokens, some)
    query = f"{subject.task.tokens[token]} at position {position}"
    return [
        panels.signed_maps(
            "trigram-scores",
            f"Attention score from {query}, without key positions",
            [""],
            scores[:, None],
            heads,
            tokens,
            "head",
            "key",
        ),
        panels.signed_maps(
            "trigram-outputs",
            "OV circuit: what attention to each token adds to each logit",
            heads,
            outputs,
            tokens,
            _written(subject.task.answer_tokens, some),
            "key",
            "logit",
        ),
    ]


def _copying(subject: Subject, layer: int, text: str) -> list[Panel]:
    eigenvalues, largest = circuits.copying_scores(subject.ensemble, subject.task.answered_inputs)
    heads = panels.head_names(subject.info.model)
    return [
        panels.over_snapshots(
            subject,
            "copying-score",
            "Copying score: sum of the OV circuit's eigenvalues over the sum of their absolute values",
            dict(zip(heads, eigenvalues.unbind(1), strict=True)),
            unit="from -1 to 1",
        ),
        panels.over_snapshots(
            subject,
            "copied-tokens",
            "Share of tokens that raise their own logit most",
            dict(zip(heads, largest.unbind(1), strict=True)),
            unit="share",
        ),
    ]


def _composition(subject: Subject, layer: int, text: str) -> list[Panel]:
    kinds: tuple[Literal["K", "Q", "V"], ...] = ("K", "Q", "V")
    n, n_layers = subject.info.model.n_heads, subject.info.model.n_layers
    heads = [f"H{head}" for head in range(n)]
    layers = [f"L{early} → L{late}" for early, late in itertools.combinations(range(n_layers), 2)]
    shown: list[Panel] = []
    for kind in kinds:
        _, values = circuits.composition_scores(subject.ensemble, kind)  # (snapshot pair)
        shown.append(
            panels.signed_maps(
                f"composition-{kind}",
                f"{kind}-composition, minus that of random matrices",
                layers,
                einops.rearrange(values, "snapshot (map early late) -> snapshot map late early", early=n, late=n),
                heads,
                heads,
                "later head",
                "earlier head",
                span=4,
            )
        )
    return shown


def _singular(subject: Subject, layer: int, text: str) -> list[Panel]:
    shown: list[Panel] = []
    n_heads = subject.info.model.n_heads
    of_layer = slice(layer * n_heads, (layer + 1) * n_heads)
    kinds: tuple[Literal["QK", "OV"], ...] = ("QK", "OV")
    for circuit in kinds:
        values = circuits.singular_values(subject.ensemble, circuit)[:, of_layer]  # (snapshot head d_head)
        heads = panels.head_names(subject.info.model, [layer])
        indices = [str(index) for index in range(1, values.shape[-1] + 1)]
        title = f"Singular values of W_{circuit}"
        shown.append(
            Columns(
                f"singular-values-{circuit}", title, indices, heads, values.numpy(), "singular value", "index", span=6
            )
        )
        effective = circuits.effective_rank(values)
        curves = dict(zip(heads, effective.unbind(1), strict=True))
        title = f"Effective rank of W_{circuit}: exponential of the entropy of its normalised singular values"
        shown.append(panels.over_snapshots(subject, f"effective-rank-{circuit}", title, curves, unit="", span=6))
    return shown


@dataclass(frozen=True)
class Circuit:
    """A choice of *Show*: its label and its panels."""

    label: str
    panels: Callable[[Subject, int, str], list[Panel]]


CIRCUITS: Mapping[str, Circuit] = {
    "qk": Circuit("QK, tokens", _qk),
    "positions": Circuit("QK, positions", _qk_positions),
    "ov": Circuit("OV", _ov),
    "trigrams": Circuit("trigram table", _trigrams),
    "copying": Circuit("copying", _copying),
    "composition": Circuit("composition", _composition),
    "singular": Circuit("singular values", _singular),
}
BY_LAYER: tuple[str, ...] = ("qk", "positions", "ov", "trigrams", "singular")  # shown one layer at a time
BY_EXAMPLE = ("trigrams",)
BY_TOKENS = ("qk", "ov")  # between all tokens, or those of the example


def available(subject: Subject) -> dict[str, str]:
    """Those of `CIRCUITS` that the run's model has, as name -> label.

    Args:
        subject: the run.
    """
    cfg = subject.info.model
    lacking = {
        "positions": cfg.architecture == "table" or cfg.positions == "none",
        "singular": cfg.architecture == "table",
        "composition": cfg.n_layers == 1,
    }
    return {name: circuit.label for name, circuit in CIRCUITS.items() if not lacking.get(name)}
