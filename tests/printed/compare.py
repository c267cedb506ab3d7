"""Two runs on one timeline."""

import numpy as np

from explorer.errors import UserError
from tests.plain import measures, tasks
from tests.plain.run import PlainRun
from tests.plain.tasks import Prompt
from tests.printed.expected import Expected, Lettering, Maps, Recorded
from tests.printed.losses_and_answers import SMOOTHING, head_names, labels, no_future, recorded, strip
from tests.printed.page import Page, recomputes


def remaining(run: PlainRun) -> np.ndarray:
    """The smallest share of the loss left so far, at each snapshot: 1 at a uniform guess, 0 at the best possible."""
    kind = "test" if "test_loss" in run.metrics else "train"
    values = run.metrics[f"{kind}_loss_per_token"].astype(np.float64)
    steps = run.metrics["test_step"] if kind == "test" else np.arange(len(values))
    averages = measures.smoothed_robustly(values, measures.beta_of_row(SMOOTHING, steps))
    smallest = np.minimum.accumulate(np.nanmean(averages, 1) / tasks.uniform_loss(run.task))
    return smallest[[int(np.flatnonzero(steps <= step)[-1]) for step in run.steps]]


def beside(page: Page) -> tuple[PlainRun, list[int]]:
    """The second run, and its step at each of the three snapshots."""
    assert page.second
    run, steps = page.second[0], np.array(page.second[0].steps)
    if page.options.align == "step":
        return run, [int(steps[np.abs(steps - step).argmin()]) for step in page.steps]
    own, other = remaining(page.run), remaining(run)
    found = []
    for frame in page.frames:
        reached = np.flatnonzero(other <= own[frame])
        found.append(int(steps[reached[0] if len(reached) else -1]))
    return run, found


def prompt_beside(page: Page) -> Prompt:
    """The example, if the second run's task can read it, otherwise the first example of that task."""
    assert page.second
    run, subject = page.second
    try:
        text = subject.task.encode(page.example).text
    except UserError:
        text = subject.first_example
    return tasks.prompt(run.task, text)


@recomputes("compare", "where")
def where(page: Page, id: str) -> Expected:
    run, steps = beside(page)
    return Lettering(
        [
            f"{page.run.folder.name} at step {step:,}    {run.folder.name} at step {other:,}"
            for step, other in zip(page.steps, steps, strict=True)
        ]
    )


@recomputes("compare", "losses-together")
def losses_together(page: Page, id: str) -> Expected:
    assert page.second
    curves = {}
    for run in (page.run, page.second[0]):
        name, mean = run.folder.name, [*recorded(run, False, SMOOTHING).values()]
        if "test_loss" in run.metrics:
            curves[f"{name}, test"] = mean[1]
            curves[f"{name}, train"] = mean[0]
        else:
            curves[name] = mean[0]
    return Recorded(curves, {}, [], SMOOTHING)


@recomputes("compare", "answers-beside")
def answers_beside(page: Page, id: str) -> Expected:
    run, steps = beside(page)
    prompt = prompt_beside(page)
    return strip(run, prompt, [measures.greedy(run.model, run.weights(step), prompt) for step in steps])


@recomputes("compare", "patterns-beside")
def patterns_beside(page: Page, id: str) -> Expected:
    run, steps = beside(page)
    prompt, names = prompt_beside(page), labels(run, prompt_beside(page))
    found = [measures.forward(run.model, run.weights(step), prompt.tokens[None]) for step in steps]
    values = np.array([no_future(measures.by_layer(run.model, one, "hook_pattern")[0]) for one in found])
    return Maps(head_names(run.model), values, names, names)
