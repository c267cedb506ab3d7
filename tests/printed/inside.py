"""Attention, activations and attribution."""

from functools import lru_cache

import numpy as np

from explorer.analysis.heads import repeated_tokens
from explorer.views.sampling import MOST
from explorer.views.subject import UNSEEN
from explorer.views.view import Links
from tests.plain import measures, tasks
from tests.plain.model import Array, backward, cross_entropy, forward, mean_loss_slope
from tests.plain.run import PlainRun
from tests.printed.expected import NUMBER, RTOL, Expected, Lines, Maps, Points, Rows, Series, cells
from tests.printed.losses_and_answers import head_names, labels, no_future
from tests.printed.page import Page, Sample, checks, recomputes
from tests.printed.samples import sampled

HOOKS = {"patterns": "hook_pattern", "scores": "hook_attn_scores", "gradients": "hook_pattern"}
BINS, MAX_SERIES, MAX_CURVES, MAX_VALUES, MAX_HEADS, N_CHANGED = 48, 8, 24, 240, 4, 10


# --- Attention ---


@recomputes("heads", "patterns", "scores", "gradients")
def attention(page: Page, id: str) -> Expected:
    """On the example, or the mean over the first unseen examples, as many as the title says."""
    said: list[float] = []
    title = None
    if page.options.show == "one":
        sample, names = page.prompt_sample, labels(page.run, page.prompt)
    else:
        n, among = page.n_examples(id), page.options.among
        if among in (None, "unseen"):
            sample, said = page.unseen(n), [n]
        else:
            sample, title = of_class(page, among), f"of the class {among}: "
            assert len(sample[0]) == n
        names = [str(position) for position in range(sample[0].shape[1])]
    found = page.activations(sample, gradient=id == "gradients")
    with np.errstate(invalid="ignore"):
        values = [no_future(measures.by_layer(page.cfg, one, HOOKS[id]).mean(0)) for one in found]
    rtol = 2e-4 if id == "gradients" else RTOL  # as in `rtol_of`
    return Maps(head_names(page.cfg), np.array(values), names, names, numbers=said, title=title, rtol=rtol)


def of_class(page: Page, name: str) -> Sample:
    """The unseen ones among the examples of a class that the task draws."""
    task, training = page.subject.task, page.subject.info.training
    trained_on = task.training_set(training)
    (classes,) = (one for one in task.classes(UNSEEN, training.seed + 1).values() if name in one.names)
    tokens, positions, targets = (
        part.numpy() for part in (classes.batch.tokens, classes.batch.positions, classes.batch.targets)
    )
    end = positions.min() + 1
    seen = set() if trained_on is None else {tuple(row) for row in trained_on.tokens[:, :end].tolist()}
    unseen = np.array([tuple(row[:end]) not in seen for row in tokens.tolist()])
    rows = np.flatnonzero(unseen & (classes.labels.numpy() == classes.names.index(name)))
    return tokens[rows], positions[rows], targets[rows]


def scored(page: Page, id: str) -> Array:
    """The sequences on which heads are scored: random tokens, drawn by the explorer, or unseen examples."""
    n = page.n_examples(id)
    if page.options.on != "repeated":
        return page.unseen(n, of=MOST)[0]
    tokens = repeated_tokens(page.cfg["d_vocab"], (page.cfg["n_ctx"] - 1) // 3, MOST)[:n].numpy()
    return np.pad(tokens, ((0, 0), (1, 0)))  # token 0 begins


@recomputes("heads", "previous-token", "duplicate-token", "prefix-matching", "entropy")
def head_scores(page: Page, id: str) -> Expected:
    tokens = scored(page, id)
    empty = np.zeros((len(tokens), 0), dtype=np.int64)
    values = []
    for found in page.activations((tokens, empty, empty)):
        patterns = measures.by_layer(page.cfg, found, "hook_pattern")
        values.append(np.array([measures.head_scores(*one)[id] for one in zip(patterns, tokens, strict=True)]))
    return sampled(page, head_names(page.cfg), np.array(values), len(tokens))


@recomputes("heads", "in-context")
def in_context(page: Page, id: str) -> Expected:
    """The loss of the tokens of the stretch that occurs three times, and that of the last minus the first."""
    tokens, stretch = scored(page, id), page.run.task["stretch"]
    batch = page.subject.unseen(MOST).rows(slice(len(tokens)))
    at = batch.extra["starts"].numpy()[..., None] + np.arange(stretch - 1)  # (batch occurrence place)
    rows, empty = np.arange(len(tokens))[:, None, None], np.zeros((len(tokens), 0), dtype=np.int64)
    values = []
    for found in page.activations((tokens, empty, empty)):
        losses = cross_entropy(found["logits"][rows, at], tokens[rows, at + 1]).mean(2)  # (batch occurrence)
        values.append(np.column_stack([losses, losses[:, -1] - losses[:, 0]]))
    names = ["occurrence 1", "occurrence 2", "occurrence 3", "score: occurrence 3 − occurrence 1"]
    return sampled(page, names, np.array(values), len(tokens))


# --- Activations ---


def selected(page: Page) -> tuple[list[str], np.ndarray, list[str], list[str], str]:
    """Names of maps, values (frame map pos unit), labels of positions and units, and the name of the unit axis."""
    hook, of_gradient = page.options.hook, page.options.kind == "gradient"
    values = np.array([one[hook][0] for one in page.activations(page.prompt_sample, of_gradient)])
    place = hook.rsplit("_", 1)[1] if "attn" in hook else ""
    positions = [f"{label} ({i})" for i, label in enumerate(labels(page.run, page.prompt))]
    maps, axis = [""], "d_model"
    if place in ("q", "k", "v", "z", "result"):
        values, axis = values.swapaxes(1, 2), "d_model" if place == "result" else "d_head"
    elif place in ("pattern", "scores"):
        values, axis = no_future(values), "key"
    else:
        values, axis = values[:, None], "d_mlp" if hook.endswith(("pre", "post")) and "mlp" in hook else "d_model"
    if place in ("q", "k", "v", "z", "result", "pattern", "scores"):
        maps = [f"L{hook.split('.')[1]}H{head}" for head in range(page.cfg["n_heads"])]
    units = positions if axis == "key" else [str(unit) for unit in range(values.shape[-1])]
    chosen = [
        sorted(i for i in which if i < len(of)) or list(range(len(of)))
        for which, of in (
            (page.options.heads, maps),
            (page.options.positions, positions),
            (page.options.units, units),
        )
    ]
    values = values[:, chosen[0]][:, :, chosen[1]][..., chosen[2]]
    names = [[of[i] for i in which] for which, of in zip(chosen, (maps, positions, units), strict=True)]
    return names[0], values, names[1], names[2], axis


def activation_said(page: Page) -> list[float]:
    """The numbers of selected heads, positions and units in a title, which are those of the options."""
    found: list[str] = []
    for which in (page.options.positions, page.options.units):
        found += map(str, which[:6])
    return [float(text) for text in found]


def rtol_of(page: Page) -> float:
    """Gradients of a softmax in float32 are differences of nearly equal numbers, and less exact."""
    return 2e-4 if page.options.kind == "gradient" else RTOL


@recomputes("activations", "values")
def values(page: Page, id: str) -> Expected:
    maps, values, positions, units, axis = selected(page)
    if page.options.form == "heatmap":
        without = [[label.rsplit(" (", 1)[0] for label in names] for names in (positions, units)]
        return Maps(maps, values, *without, numbers=activation_said(page), rtol=rtol_of(page))
    curves = {
        f"{name} {position} {axis} {unit}".strip(): values[:, m, p, u]
        for m, name in enumerate(maps)
        for p, position in enumerate(positions)
        for u, unit in enumerate(units)
        if np.isfinite(values[:, m, p, u]).any()
    }
    return Lines(page.run.steps, curves, numbers=activation_said(page), rtol=rtol_of(page))


@recomputes("activations", "grouped")
def grouped(page: Page, id: str) -> Expected:
    """The root mean square of each head, position or unit: curves of at most 24, otherwise rows."""
    maps, values, positions, units, _ = selected(page)
    axis = ("head", "position", "unit").index(page.options.colour)
    names = (maps, positions, units)[axis]
    groups = np.moveaxis(values, 1 + axis, 1).reshape(len(values), len(names), -1)
    said = activation_said(page)
    if len(names) <= MAX_CURVES:
        assert np.isfinite(values[0]).sum() > MAX_VALUES
        roots = np.sqrt(np.nanmean(groups**2, 2))
        numbers = [*said, np.isfinite(values[0]).sum()]
        return Lines(page.run.steps, dict(zip(names, roots.T, strict=True)), numbers=numbers, rtol=rtol_of(page))
    rows = groups[..., 0] if groups.shape[2] == 1 else np.sqrt(np.nanmean(groups**2, 2))
    return Rows(names, page.run.steps, rows.T, page.frames, numbers=said, rtol=rtol_of(page))


def points_of(page: Page) -> tuple[Sample, list[int], list[str], list[Array]]:
    """Of a scatter plot: the examples, their positions, the heads, and values (head point unit) at the three snapshots
    and at the last one."""
    hook, options = page.options.hook, page.options
    n_pos = page.unseen(2)[0].shape[1]
    positions = sorted(i for i in options.positions if i < n_pos) or list(range(n_pos))
    sample = page.unseen(min(500, 1500 // len(positions)))
    place, layer = hook.rsplit("_", 1)[1] if "attn" in hook else "", hook.split(".")[1] if "." in hook else ""
    heads = sorted(i for i in options.heads if i < page.cfg["n_heads"]) or list(range(page.cfg["n_heads"]))
    heads = heads[:MAX_HEADS]
    names = [f"L{layer}H{head}" for head in heads]
    of_gradient = options.kind == "gradient"
    found = page.activations(sample, of_gradient) + page.activations(sample, of_gradient, at=page.run.steps[-1])
    values = []
    for one in found:
        x = one[hook]
        if place in ("q", "k", "v", "z", "result"):
            x = x.transpose(2, 0, 1, 3)[heads]  # (head batch pos unit)
        elif place in ("pattern", "scores"):
            x = np.where(np.tri(x.shape[-1], dtype=bool), x, 0).transpose(1, 0, 2, 3)[heads]
        else:
            x, names = x[None], [""]
        values.append(x[:, :, positions].reshape(len(x), -1, x.shape[-1]))
    return sample, positions, names, values


def projected(page: Page) -> tuple[list[str], list[tuple[str, str]], Array]:
    """Names of the heads, their axes, and coordinates (frame head point 2): on the first two principal components of
    the last snapshot, whose largest weight is positive."""
    assert (page.options.across, page.options.up) == ("PC1", "PC2")
    _, _, names, values = points_of(page)
    axes, coordinates = [], []
    for head in range(len(names)):
        last = values[-1][head]
        mean = last.mean(0)
        _, deviations, rows = np.linalg.svd(last - mean, full_matrices=False)
        rows = np.array([row * np.sign(row[np.abs(row).argmax()]) for row in rows[:2]])
        explained = deviations**2 / (deviations**2).sum()
        axes.append((f"PC1 ({explained[0]:.0%})", f"PC2 ({explained[1]:.0%})"))
        coordinates.append([(frame[head] - mean) @ rows.T for frame in values[:-1]])
    return names, axes, np.array(coordinates).swapaxes(0, 1)


def rtol_of_points(page: Page) -> float:
    """Principal directions of gradients of a loss that is all but 0 turn with its rounding."""
    return 2e-3 if page.options.kind == "gradient" else rtol_of(page)


@recomputes("activations", "points-.*")
def points(page: Page, id: str) -> Expected:
    """Their places and texts; not their colours."""
    sample, positions, *_ = points_of(page)
    names, axes, coordinates = projected(page)
    head = [name or "all" for name in names].index(id.removeprefix("points-"))
    tokens, texts = tasks.vocabulary(page.run.task), []
    apart = "" if max(map(len, tokens)) == 1 else " "
    for row in sample[0]:
        text = apart.join(tokens[token] for token in row)
        text = text if len(text) <= 24 else f"{text[:23]}…"
        texts += [f"{text}, {tokens[row[i]]} ({i})" if len(positions) > 1 else text for i in positions]
    title = f"{len(sample[0]):,} unseen examples"
    return Points(texts, coordinates[:, head], axes[head], title=title, rtol=rtol_of_points(page))


@recomputes("activations", "spread")
def spread(page: Page, id: str) -> Expected:
    names, axes, coordinates = projected(page)
    deviations = coordinates.std(2)  # (frame head 2)
    curves = {
        f"{name} {axis}".strip(): deviations[:, head, place]
        for head, name in enumerate(names)
        for place, axis in enumerate(axes[head])
    }
    return Lines(page.run.steps, curves, numbers=[coordinates.shape[2]], rtol=rtol_of_points(page))


@lru_cache(maxsize=8)
def extremes(run: PlainRun, text: str, kind: str) -> dict[str, tuple[float, float]]:
    """Hook point -> the smallest and the largest value on a text at any snapshot; attention without future keys."""
    prompt, found = tasks.prompt(run.task, text), {}
    for step in run.steps:
        values = forward(run.model, run.weights(step), prompt.tokens[None])
        if kind == "gradient":
            slope = mean_loss_slope(values["logits"], prompt.positions[None], prompt.targets[None])
            values = backward(run.model, run.weights(step), values, slope)
        for hook, one in values.items():
            one = no_future(one) if hook.endswith(("pattern", "scores")) else one
            low, high = found.get(hook, (np.inf, -np.inf))
            found[hook] = min(low, np.nanmin(one)), max(high, np.nanmax(one))
    return found


@recomputes("activations", "histogram")
def histogram(page: Page, id: str) -> Expected:
    """In bins between the smallest and the largest value of any snapshot, so that all are looked at."""
    assert not any((page.options.heads, page.options.positions, page.options.units))
    maps, values, *_ = selected(page)
    low, high = extremes(page.run, page.example, page.options.kind)[page.options.hook]
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    edges = np.linspace(low, high, BINS + 1)
    shares = []
    for frame in values[:, :MAX_SERIES]:
        of_maps = [one[np.isfinite(one)] for one in frame]
        shares.append([np.histogram(one, edges)[0] / max(len(one), 1) for one in of_maps])
    # A value within rounding of an edge may fall on either side of it.
    smallest = min(int(np.isfinite(one).sum()) for one in values[0])
    rtol = 4 / smallest / np.max(shares)
    centres = list((edges[:-1] + edges[1:]) / 2)
    return Series(maps[:MAX_SERIES], centres, np.array(shares), rtol=float(rtol), numbers=activation_said(page))


@recomputes("activations", "rms")
def root_mean_square(page: Page, id: str) -> Expected:
    maps, values, *_ = selected(page)
    curves = {
        name or "all": np.sqrt(np.nanmean(values[:, i].reshape(len(values), -1) ** 2, 1)) for i, name in enumerate(maps)
    }
    return Lines(page.run.steps, curves, numbers=activation_said(page), rtol=rtol_of(page))


@checks("activations", Links)
def most_changed(page: Page, links: Links) -> None:
    """Names and values of the units that differ most between two snapshots, on the first 32 unseen examples."""
    sample = page.unseen(UNSEEN)
    ends = [page.activations(sample, at=step)[0][page.options.hook] for step in (page.options.first, page.options.last)]
    change = np.abs(ends[1] - ends[0]).mean((0, 1))
    found = np.sort(change.ravel())[::-1][:N_CHANGED]
    assert len(links.links) == len(found)
    for link, value in zip(links.links, found, strict=True):
        name, shown = link.label.split(" · ")
        cells([shown], [value])
        place = tuple(int(number) for number in NUMBER.findall(name.split("H")[-1]))
        cells([shown], [change[place]])


# --- Attribution ---


def answer_labels(page: Page) -> list[str]:
    names = tasks.answer_tokens(page.run.task)
    return [f"{place}: {names[target]}" for place, target in zip(page.prompt.places, page.prompt.targets, strict=True)]


@recomputes("components", "attribution", "attribution-over-training")
def attribution(page: Page, id: str) -> Expected:
    centred, answer = page.options.of == "centred", page.options.answer
    found = page.each(lambda w: measures.attribution(page.cfg, w, page.prompt, answer, centred))
    names = list(found[0][0])
    values = np.array([[added[name] for name in names] for added, _ in found])
    right = tasks.answer_tokens(page.run.task)[page.prompt.targets[answer]]
    if id == "attribution":
        title = f"Direct logit attribution of {right} for {page.prompt.places[answer]}: "
        return Series(["logit"], names, values[:, None], title=title)
    np.testing.assert_allclose(values.sum(1), [logit for _, logit in found], rtol=1e-9)
    curves = {"sum": [logit for _, logit in found], **dict(zip(names, values.T, strict=True))}
    return Lines(page.run.steps, curves)


@recomputes("components", "lens")
def lens(page: Page, id: str) -> Expected:
    found = page.each(lambda w: measures.logit_lens(page.cfg, w, page.prompt))
    values = np.array([[list(stages.values())] for stages in found])
    return Maps([""], values, list(found[0]), answer_labels(page))
