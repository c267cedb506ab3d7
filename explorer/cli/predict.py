"""Let a run answer an example."""

import argparse
from typing import Any

from explorer.analysis.answers import greedy_answers
from explorer.cli.main import say, say_json, warn
from explorer.runs import Runs
from explorer.runs.sentences import named_steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_name", metavar="run")
    parser.add_argument("text", help='such as "12345+67890="')
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, help="of the snapshot; default: the last")
    which.add_argument("--all-steps", action="store_true")
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> None:
    run = Runs(options.checkpoints).open(options.run_name)
    task = run.info().task
    example = task.encode(options.text)
    steps = run.steps()
    problems: list[str] = []
    if options.all_steps:
        ensemble = run.ensemble(problems=problems)
    else:
        step = steps[-1] if options.step is None and steps else options.step
        ensemble = run.ensemble(steps=None if step is None else [step])
    answers = greedy_answers(ensemble, example)
    rows: list[dict[str, Any]] = []
    gaps = []  # the steps of the snapshots that give no answer
    for step, tokens, probabilities, right in zip(
        ensemble.steps, answers.tokens, answers.probabilities, answers.all_right, strict=True
    ):
        if not probabilities.isfinite().all():
            gaps.append(step)
            rows.append({"step": step, "answer": None, "correct": None, "digits": []})
            continue
        digits = [
            {"token": task.answer_tokens[token], "probability": round(float(p[token]), 6)}
            for token, p in zip(tokens.tolist(), probabilities, strict=True)
        ]
        answer = "".join(digit["token"] for digit in digits)
        rows.append({"step": step, "answer": answer, "correct": bool(right), "digits": digits})
    if gaps:
        problems.append(
            f"{run.name} gives no answer at {named_steps(gaps)}: the probabilities there are not finite; choose "
            "another step, or restore its snapshots."
        )
    warn([example.note, *problems] if example.note else problems)
    if options.json:
        say_json(rows if options.all_steps else rows[0])
        return
    for row in rows:
        if row["answer"] is None:
            say(f"step {row['step']:>6}  {example.text} → no answer")
            continue
        mark = "right" if row["correct"] else "wrong"
        sure = min(digit["probability"] for digit in row["digits"])
        say(f"step {row['step']:>6}  {example.text} → {row['answer']}  {mark}, least sure {sure:.1%}")
