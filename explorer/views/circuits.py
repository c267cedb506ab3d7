"""What heads read and write, from the weights alone, at every snapshot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from explorer.analysis import circuits
from explorer.film.film import Film
from explorer.film.panels.columns import Columns
from explorer.film.panels.panel import Panel
from explorer.scene import Context, choice
from explorer.views import panels
from explorer.views.subject import Subject
from explorer.views.view import View


def _layers(context: Context) -> dict[int, str]:
    return {layer: f"layer {layer}" for layer in range(context.subject.info.model.n_layers)}


@dataclass(frozen=True)
class Options:
    show: str = choice("Show", lambda context: possible(context.subject))
    layer: int = choice("Layer", _layers, when=lambda context: context.chosen["show"] in BY_LAYER)


class Circuits(View[Options]):
    name, title, icon, place = "circuits", "Circuits", "schema", (1, 3)
    options_type = Options

    def uses_example(self, options: Options) -> bool:
        return options.show in BY_EXAMPLE

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        return film(subject, options.show, options.layer, example)


def film(subject: Subject, what: str, layer: int, text: str) -> Film:
    """One of `WHAT`.

    Args:
        layer: whose heads, where layers are shown one at a time; the last where there are not so many.
        text: an example, whose first asked token looks, where one is needed.

    Raises:
        UserError: ``text`` is not an example of the run's task, or the model has no such circuit.
    """
    layer = min(layer, subject.info.model.n_layers - 1)
    return Film(subject.steps, [panels.timeline(subject), *WHAT[what].panels(subject, layer, text)])


def _qk(subject: Subject, layer: int, text: str) -> list[Panel]:
    values = circuits.qk_circuit(subject.ensemble, layer)
    tokens, heads = subject.task.tokens, panels.head_names(subject.info.model, [layer])
    title = "Full QK circuit: the score that a query token gives a key token, positions left out"
    return [panels.signed_maps("qk", title, heads, values, tokens, tokens, "query", "key")]


def _qk_positions(subject: Subject, layer: int, text: str) -> list[Panel]:
    values = circuits.positional_qk_circuit(subject.ensemble, layer)
    places = [str(place) for place in range(values.shape[-1])]
    heads = panels.head_names(subject.info.model, [layer])
    title = "QK circuit of positions: the score that one gives another, tokens left out"
    return [panels.signed_maps("qk-positions", title, heads, values, places, places, "query", "key")]


def _ov(subject: Subject, layer: int, text: str) -> list[Panel]:
    values = circuits.ov_circuit(subject.ensemble, layer)
    heads = panels.head_names(subject.info.model, [layer])
    title = "Full OV circuit: what a token that is looked at adds to each logit, directly"
    return [
        panels.signed_maps(
            "ov", title, heads, values, subject.task.tokens, subject.task.answer_tokens, "token looked at", "logit"
        )
    ]


def _trigrams(subject: Subject, layer: int, text: str) -> list[Panel]:
    """Score and output of each token, seen from where the example asks first."""
    example = subject.task.encode(text)
    position = int(example.positions[0])
    # An answer that the model writes itself comes after the prompt; the first is asked for in the prompt.
    token = int(example.tokens[position])
    scores = circuits.scores_from_token(subject.ensemble, layer, token, position)  # (snapshot head token)
    outputs = circuits.ov_circuit(subject.ensemble, layer)
    heads = panels.head_names(subject.info.model, [layer])
    tokens = subject.task.tokens
    seen = f"{tokens[token]} at position {position}"
    return [
        panels.signed_maps(
            "trigram-scores",
            f"Score from {seen}, positions of keys left out",
            [""],
            scores[:, None],
            heads,
            tokens,
            "head",
            "key",
        ),
        panels.signed_maps(
            "trigram-outputs",
            "What it then adds to each logit",
            heads,
            outputs,
            tokens,
            subject.task.answer_tokens,
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
            "Copying score: sum of eigenvalues of the OV circuit over the sum of their sizes",
            dict(zip(heads, eigenvalues.unbind(1), strict=True)),
            unit="from -1 to 1",
        ),
        panels.over_snapshots(
            subject,
            "copied-tokens",
            "Tokens whose own logit is the one that they raise most",
            dict(zip(heads, largest.unbind(1), strict=True)),
            unit="share",
        ),
    ]


def _composition(subject: Subject, layer: int, text: str) -> list[Panel]:
    curves = []
    for kind in ("K", "Q", "V"):
        pairs, values = circuits.composition_scores(subject.ensemble, kind)
        names = [f"{early} → {late}" for early, late in pairs]
        curves.append(
            panels.over_snapshots(
                subject,
                f"composition-{kind}",
                f"{kind}-composition, above that of random matrices",
                dict(zip(names, values.unbind(1), strict=True)),
                unit="of the norms' product",
            )
        )
    return curves


def _singular(subject: Subject, layer: int, text: str) -> list[Panel]:
    found: list[Panel] = []
    n_heads = subject.info.model.n_heads
    here = slice(layer * n_heads, (layer + 1) * n_heads)
    for circuit in ("QK", "OV"):
        values = circuits.singular_values(subject.ensemble, circuit)[:, here]  # (snapshot head d_head)
        heads = panels.head_names(subject.info.model, [layer])
        ranks = [str(rank) for rank in range(1, values.shape[-1] + 1)]
        title = f"Singular values of W_{circuit}"
        found.append(Columns(f"singular-values-{circuit}", title, ranks, heads, values.numpy(), "size", "rank", span=6))
        effective = circuits.effective_rank(values)
        curves = dict(zip(heads, effective.unbind(1), strict=True))
        title = f"Effective rank of W_{circuit}: exp of the entropy of its singular values' shares"
        found.append(panels.over_snapshots(subject, f"effective-rank-{circuit}", title, curves, unit="", span=6))
    return found


@dataclass(frozen=True)
class Shown:
    """One thing that can be shown of circuits."""

    label: str
    panels: Callable[[Subject, int, str], list[Panel]]


WHAT: Mapping[str, Shown] = {
    "qk": Shown("QK, tokens", _qk),
    "positions": Shown("QK, positions", _qk_positions),
    "ov": Shown("OV", _ov),
    "trigrams": Shown("trigram table", _trigrams),
    "copying": Shown("copying", _copying),
    "composition": Shown("composition", _composition),
    "singular": Shown("singular values", _singular),
}
BY_LAYER = ("qk", "positions", "ov", "trigrams", "singular")  # shown one layer at a time
BY_EXAMPLE = ("trigrams",)


def possible(subject: Subject) -> dict[str, str]:
    """What of `WHAT` this run's model has, by label."""
    cfg = subject.info.model
    table = ("positions", "singular") if cfg.architecture == "table" else ()
    flat = ("composition",) if cfg.n_layers == 1 else ()
    nowhere = ("positions",) if cfg.positions == "none" else ()
    return {what: shown.label for what, shown in WHAT.items() if what not in (*table, *flat, *nowhere)}
