"""Sentences about several snapshots, and about what is no run."""

import re
from collections.abc import Mapping, Sequence

from explorer.errors import listed, quoted
from explorer.runs.place import NAMES

MOST_NAMED = 4  # steps or names that a sentence lists


def named_steps(steps: Sequence[int]) -> str:
    """Steps in words: "step 30", "steps 30 and 40", or "12 steps from 30 to 900".

    Args:
        steps: ascending, at least one.
    """
    shown = [f"{step:,}" for step in steps]
    if len(steps) == 1:
        return f"step {shown[0]}"
    if len(steps) <= MOST_NAMED:
        return f"steps {', '.join(shown[:-1])} and {shown[-1]}"
    return f"{len(steps):,} steps from {shown[0]} to {shown[-1]}"


def of_alike(sentence_at: Mapping[int, str], known: tuple[int, ...]) -> list[str]:
    """A sentence for all snapshots that have the same problem, but for its numbers.

    Args:
        sentence_at: step -> the snapshot's own sentence.
        known: the steps of all snapshots of the run.
    """
    alike: dict[str, dict[int, str]] = {}
    for step, sentence in sentence_at.items():
        alike.setdefault(re.sub(r"\d+", "", sentence), {})[step] = sentence
    return [_of_all(some, known) for some in alike.values()]


def _of_all(sentence_at: Mapping[int, str], known: tuple[int, ...]) -> str:
    """One sentence for snapshots with the same problem: the first one's, and which others have it.

    Args:
        sentence_at: step -> the snapshot's own sentence.
        known: the steps of all snapshots of the run.
    """
    first, *others = sentence_at
    if not others:
        return sentence_at[first]
    which = f"for all {len(known):,} snapshots" if len(sentence_at) == len(known) else f"at {named_steps(others)}"
    return f"{sentence_at[first].removesuffix('.')}; the same holds {which}."


def no_runs(names: Sequence[str], where: str) -> str:
    """A sentence about what is in a folder of runs without being one; "" if there is nothing.

    Args:
        names: of it all.
        where: the folder.
    """
    if not names:
        return ""
    are = "is no run" if len(names) == 1 else "are no runs"
    named = listed([quoted(name) for name in names], MOST_NAMED)
    return f"In {where}, {named} {are}: a run is a folder with a run.json, whose name has {NAMES}."
