"""The figures that texts state of the shipped runs: measured here, kept in docs/facts.json, and filled into README.md
and into about.md of each run, which the page Runs shows.

    python -m benchmarks.facts            # measures all of them, and writes these files

In a text a figure stands between two comments, ``<!--run.figure-->96.8 %<!---->``. Tests measure the figures again and
compare them with all files.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch

from explorer.analysis.circuits import composition_scores
from explorer.analysis.fourier import key_frequencies, norms_by_frequency, weight_norms
from explorer.analysis.heads import head_scores
from explorer.runs import Runs
from explorer.views.classes import class_films
from explorer.views.heads import repeated_sequences
from explorer.views.losses import phases
from explorer.views.subject import Subject
from explorer.views.view import last

ROOT = Path(__file__).parents[1]
FACTS = ROOT / "docs" / "facts.json"
FILLED = re.compile(r"<!--([a-z-]+\.[a-z0-9_]+)-->(.*?)<!---->", re.DOTALL)

Facts = dict[str, str]


def _final(subject: Subject, n: int) -> tuple[float, float]:
    """The share of ``n`` unseen examples with every answer right, and their mean loss, of the last snapshot."""
    batch, final = subject.unseen(n), subject.ensemble.select(slice(-1, None))
    logits = final.logits_at(batch.tokens, batch.positions)
    right = (logits.argmax(-1) == batch.targets).all(-1)
    return float(right.double().mean()), float(subject.task.losses(logits, batch).mean())


def _steepest(subject: Subject, token: str, kind: str = "") -> int:
    """The step at which the deepest fall of a loss is steepest."""
    return next(p.steepest for p in phases(subject) if p.is_deepest and (p.name, p.kind) == (token, kind))


def _first(steps: torch.Tensor, holds: torch.Tensor) -> int:
    """The first step from which something holds for good."""
    failed = (~holds).nonzero()
    return int(steps[int(failed[-1]) + 1 if len(failed) else 0])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _addition(subject: Subject) -> Facts:
    accuracy, _ = _final(subject, 75_000)
    right = last(class_films(subject)).panels[2].lines
    by_class = {line.label.split(":")[0]: float(line.values[-1]) for line in right}
    names = subject.task.loss_names
    return {
        "accuracy": _percent(accuracy),
        "leading": f"{_steepest(subject, names[0]):,}",
        "latest": f"{max(_steepest(subject, name) for name in names):,}",
        **{name.lower(): f"{100 * by_class[name]:.0f} %" for name in ("S0", "S3", "S5")},
    }


def _addition_finite(subject: Subject) -> Facts:
    means = subject.metrics["test_loss"][300:].unfold(0, 25, 1).mean(1)  # once all sums are learnt by heart
    right = subject.metrics["accuracy"][:, 0]
    again = [p for p in phases(subject) if (p.name, p.kind, p.what) == ("hundreds", "test", "fall")]
    return {
        "memorised": f"{int((right == 1).nonzero()[0]):,}",
        "peak": f"{float(means.max()):.1f}",
        "hundreds": f"{_steepest(subject, 'hundreds', 'test'):,}",
        "again": f"{again[-1].steepest:,}",
        "final": f"{_final(subject, 4_000)[1]:.2f}",
    }


def _skip_trigram(subject: Subject) -> Facts:
    steps = [_steepest(subject, name) for name in subject.task.loss_names]
    return {"first": f"{min(steps):,}", "latest": f"{max(steps):,}"}


def _skip_trigram_finite(subject: Subject) -> Facts:
    return {"unseen": f"{_final(subject, 4_000)[1]:.4f}", "train": f"{float(subject.metrics['train_loss'][-1]):.1g}"}


def _induction(subject: Subject) -> Facts:
    ensemble, sequences = subject.ensemble, repeated_sequences(subject).tokens[:64]
    best = head_scores(ensemble, sequences)["prefix matching"].mean(-1).max(1).values  # (snapshot,)
    pairs, scores = composition_scores(ensemble, "K")
    of_l0h0 = torch.stack([scores[:, i] for i, (early, _) in enumerate(pairs) if early == "L0H0"], 1).max(1).values
    loss = subject.metrics["train_loss"]

    def at(values: torch.Tensor, step: int) -> str:
        nearest = min(range(len(subject.steps)), key=lambda i: abs(subject.steps[i] - step))
        return f"{float(values[nearest]):.2f}"

    return {
        "at_750": f"{float(loss[740:760].mean()):.1f}",
        "at_1100": f"{float(loss[1090:1110].mean()):.2f}",
        "prefix_before": at(best, 793),
        "prefix_after": at(best, 1_004),
        "prefix_final": at(best, subject.steps[-1]),
        "composition_before": at(of_l0h0, 793),
        "composition_after": at(of_l0h0, 1_004),
        "composition_later": at(of_l0h0, 2_350),
    }


def _induction_finite(subject: Subject) -> Facts:
    steps, test = subject.metrics["test_step"], subject.metrics["test_loss"]
    peak = int(test.argmax())
    accuracy = subject.metrics["accuracy"][:, 0]
    around = slice(int(steps[peak]) - 25, int(steps[peak]) + 25)
    return {
        "peak": f"{float(test[peak]):.1f}",
        "peak_step": f"{int(steps[peak]):,}",
        "known": f"{100 * float(accuracy[around].mean()):.0f} %",
        "half": f"{_first(steps, test < 3):,}",
        "final": f"{float(test[-20:].mean()):.2f}",
    }


def _modular_addition(subject: Subject) -> Facts:
    steps, test = subject.metrics["test_step"], subject.metrics["test_loss"]
    right, train = subject.metrics["test_accuracy"][:, 0], subject.metrics["accuracy"][:, 0]
    norms = norms_by_frequency(weight_norms(subject.ensemble, subject.task.cycle)["W_E"])
    return {
        "memorised": f"{_first(torch.arange(len(train)), train == 1):,}",
        "peak_step": f"{int(steps[int(test.argmax())]):,}",
        "half": f"{_first(steps, right >= 0.5):,}",
        "nearly_all": f"{_first(steps, right >= 0.99):,}",
        "frequencies": ", ".join(map(str, key_frequencies(norms[-1]))),
    }


MEASURES: dict[str, Callable[[Subject], Facts]] = {
    "addition": _addition,
    "addition-finite": _addition_finite,
    "skip-trigram": _skip_trigram,
    "skip-trigram-finite": _skip_trigram_finite,
    "induction": _induction,
    "induction-finite": _induction_finite,
    "modular-addition": _modular_addition,
}


RUNS = Runs(ROOT / "checkpoints")
TEXTS = [ROOT / "README.md", *(RUNS.open(run).about_file for run in MEASURES)]


def measured(run: str) -> Facts:
    """The figures of one shipped run.

    Args:
        run: its name.

    Returns:
        "run.figure" -> as it is printed.
    """
    subject = Subject.load(RUNS.open(run))
    return {f"{run}.{name}": value for name, value in MEASURES[run](subject).items()}


def filled(text: str, facts: Facts) -> str:
    """A text with every figure as it is in ``facts``.

    Args:
        text: in which figures stand between two comments.
        facts: "run.figure" -> as it is printed.

    Raises:
        KeyError: the text has a figure that nobody measures.
    """
    return FILLED.sub(lambda match: f"<!--{match[1]}-->{facts[match[1]]}<!---->", text)


def main() -> None:
    facts = {name: value for run in MEASURES for name, value in measured(run).items()}
    FACTS.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in TEXTS:
        path.write_text(filled(path.read_text(encoding="utf-8"), facts), encoding="utf-8")
    for name, value in facts.items():
        print(f"{name:<40}{value}")


if __name__ == "__main__":
    main()
