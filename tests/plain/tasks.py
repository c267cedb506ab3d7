"""What the tasks' texts mean: tokens, answers, and the sentences in which a model's answers are written out.

Axes: pos, answer.
"""

import math
from dataclasses import dataclass

import numpy as np

PLACES = ["units", "tens", "hundreds", "thousands", "10k", "100k", "1M", "10M", "100M", "1B", "10B"]
FILL = "hbgjcaiedfjgbhaecdifhajbgdceifbjhgadecif"  # a short skip-trigram text is filled up from here
CHARACTERS = [*map(chr, range(0x20, 0x7F)), *map(chr, range(0xC0, 0xE0))]  # induction's tokens from 1 on


@dataclass(frozen=True)
class Prompt:
    """A text as tokens, followed by the right answer where that is part of the sequence."""

    tokens: np.ndarray  # (pos,)
    n_prompt: int
    positions: np.ndarray  # (answer,) at which the answers are predicted
    targets: np.ndarray  # (answer,)
    places: list[str]  # (answer,) labels


def vocabulary(task: dict) -> list[str]:
    """How each input token is written."""
    if task["name"] == "addition":
        return list("0123456789+=")
    if task["name"] == "modular-addition":
        return [*map(str, range(task["p"])), "="]
    if task["name"] == "skip-trigram":
        return list("^=abcdefghijABCDEFGHIJ")
    return ["⊢", *(character.replace(" ", "␣") for character in CHARACTERS)]


def answered(task: dict) -> list[int]:
    """For each output token, the input token of the same meaning."""
    n = len(vocabulary(task))
    kinds = {"addition": range(10), "modular-addition": range(n - 1), "skip-trigram": range(12, 22)}
    return list(kinds.get(task["name"], range(n)))


def answer_tokens(task: dict) -> list[str]:
    """How each output token is written."""
    if task["name"] == "skip-trigram":
        return [str(digit) for digit in range(10)]
    return [vocabulary(task)[token] for token in answered(task)]


def loss_names(task: dict) -> list[str]:
    """Of the per-token losses."""
    if task["name"] == "addition":
        return PLACES[: task["n_digits"] + 1][::-1]
    if task["name"] == "modular-addition":
        return ["answer"]
    if task["name"] == "skip-trigram":
        return [f"{'ABCDEFGHIJ'[i]} → {i}" for i in range(10)]
    return [f"copy {copy}, token {place}" for copy in (1, 2) for place in range(2, task["stretch"] + 1)]


def groups(task: dict) -> dict[str, list[int]]:
    """The per-token losses that are shown together."""
    found: dict[str, list[int]] = {}
    for i, name in enumerate(loss_names(task)):
        found.setdefault(name.split(",")[0], []).append(i)
    return found


def by_token(task: dict, losses: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Losses (batch answer) by the per-token losses that they belong to, (batch token); nan: an example has none."""
    if task["name"] == "skip-trigram":
        return np.where(targets == np.arange(10), losses, np.nan)
    return losses


def uniform_loss(task: dict) -> float:
    """Of a guess among all answers; induction never repeats its begin token."""
    return math.log(len(answered(task)) - (task["name"] == "induction"))


def references(task: dict) -> dict[str, float]:
    """The levels that are drawn beside the losses: the mean over all tokens, where that is above 0."""
    levels = {"uniform guess": uniform_loss(task)}
    if task["name"] == "addition":  # the carry into a column is 1 with this probability
        carries = [0.0]
        for _ in range(task["n_digits"]):
            carries.append((45 + 10 * carries[-1]) / 100)
        entropies = [-sum(q * math.log(q) for q in (p, 1 - p) if q) for p in carries]
        levels["carries unknown"] = sum(entropies) / len(entropies)
    return levels


def prompt(task: dict, text: str) -> Prompt:
    """The tokens of a text in its normal form."""
    if task["name"] == "addition":
        return _sum(task, *text.split("+"))
    if task["name"] == "modular-addition":
        x, y = map(int, text.split("+"))
        right = (x + y) % task["p"]
        return Prompt(np.array([x, y, task["p"]]), 3, np.array([2]), np.array([right]), [text])
    if task["name"] == "skip-trigram":
        letters = text + FILL[len(text) :]
        tokens = ["^=abcdefghijABCDEFGHIJ".index(letter) for letter in f"^{letters}="]
        (right,) = [token - 12 for token in tokens if token >= 12]
        return Prompt(np.array(tokens), 42, np.array([41]), np.array([right]), [loss_names(task)[right]])
    tokens = [0, *(1 + CHARACTERS.index(character) for character in text)]
    positions, targets = [], []
    for at, token in enumerate(tokens):
        earlier = [before for before in range(1, at) if tokens[before] == token]
        if at and earlier and tokens[at + 1 : at + 2] in ([], [tokens[earlier[-1] + 1]]):
            positions.append(at)
            targets.append(tokens[earlier[-1] + 1])
    names = vocabulary(task)
    places = [f"after {names[tokens[at]]} ({at})" for at in positions]
    return Prompt(np.array(tokens), len(tokens), np.array(positions), np.array(targets), places)


def _sum(task: dict, x: str, y: str) -> Prompt:
    n = task["n_digits"]
    right = f"{int(x) + int(y):0{n + 1}d}"
    written = f"{x:0>{n}}+{y:0>{n}}={right}"
    tokens = ["0123456789+=".index(symbol) for symbol in written]
    first = 2 * n + 1
    positions, targets = np.arange(first, first + n + 1), np.array([int(digit) for digit in right])
    return Prompt(np.array(tokens), 2 * n + 2, positions, targets, loss_names(task))


def written_prompt(task: dict, prompt: Prompt) -> list[str]:
    """The tokens of a prompt; the sign of modular addition, which is no token, behind the first number."""
    texts = [vocabulary(task)[token] for token in prompt.tokens[: prompt.n_prompt]]
    if task["name"] == "modular-addition":
        texts[0] += " +"
    return texts


def written(task: dict, text: str, answer: list[int]) -> str:
    """The text worked out, with a model's answer and whether it is right."""
    of = prompt(task, text)
    wrong = [said != right for said, right in zip(answer, of.targets, strict=True)]
    said = "".join(answer_tokens(task)[token] for token in answer)
    if task["name"] == "addition":
        x, y = text.split("+")
        carry, chain = 0, ["·"]  # units first
        for one, other in zip(x[::-1], y[::-1], strict=True):
            carry = int(int(one) + int(other) + carry >= 10)
            chain.append("1" if carry else "·")
        right = "".join(map(str, of.targets))
        marks = "".join("^" if one else " " for one in wrong)
        verdict = "wrong" if any(wrong) else "right"
        lines = [f" {''.join(chain[::-1])}  carries", f"  {x}", f" +{y}", f"={right}", "", f" {said}  model"]
        return "\n".join([*lines, f" {marks}  {verdict}"])
    if task["name"] == "modular-addition":
        p, (x, y, _), right = task["p"], map(int, of.tokens), int(of.targets[0])
        lines = [f"{x} + {y} = {right}   mod {p}"]
        if x + y != right:
            lines.append(f"{x + y} = {right} + {(x + y) // p} × {p}")
        off = min((answer[0] - right) % p, (right - answer[0]) % p)
        return "\n".join([*lines, "", f"model: {said}  {f'wrong, off by {off}' if off else 'right'}"])
    if task["name"] == "skip-trigram":
        letters = text + FILL[len(text) :]
        (place,) = [i for i, letter in enumerate(letters) if letter.isupper()]
        row, column = divmod(place, 20)
        rows = [letters[:20], letters[20:]]
        rows.insert(row + 1, " " * column + "↑")
        verdict = f"wrong, {letters[place]} goes with {of.targets[0]}" if wrong[0] else "right"
        return "\n".join([*rows, "", f"{letters[place]} … = {of.targets[0]}", f"model: {said}  {verdict}"])
    shown = text.replace(" ", "␣") + " " * int(of.positions[-1] == len(text))
    model, marks = [" "] * len(shown), [" "] * len(shown)
    for at, token, is_wrong in zip(of.positions, answer, wrong, strict=True):
        model[at], marks[at] = vocabulary(task)[token], "^" if is_wrong else " "
    lines, width = [], task["interval"]
    for start in range(0, len(shown), width):
        row = slice(start, start + width)
        lines.append(f"text  {shown[row]}".rstrip())
        lines.append(f"model {''.join(model[row])}".rstrip())
        lines.append(f"      {''.join(marks[row])}".rstrip())
    return "\n".join(lines).rstrip()
