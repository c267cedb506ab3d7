"""What the tests of the stories' claims share: the runs that ship, and when their losses fall."""

from functools import cache

from explorer.runs import Runs
from explorer.views.losses import phases
from explorer.views.subject import Subject
from tests.conftest import SHIPPED


@cache
def subject_of(run: str) -> Subject:
    return Subject.load(Runs(SHIPPED).open(run))


def falls(subject: Subject, kind: str = "") -> dict[str, int]:
    """The steepest step of the deepest fall of each loss, in the order of these steps."""
    return {phase.name: phase.steepest for phase in phases(subject) if phase.is_deepest and phase.kind == kind}
