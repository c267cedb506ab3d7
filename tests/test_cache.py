"""What is kept in memory for all sessions."""

import threading

import numpy as np
import pytest

from explorer.pages.cache import Kept, Memory, nbytes
from explorer.runs import Runs, recorder
from tests.conftest import LONG, MODEL, TASK


@pytest.fixture
def memory() -> Memory:
    return Memory(Kept(2**30, lambda run: run.nbytes), Kept(2**20, nbytes))


def test_a_slow_view_holds_up_nobody_but_who_wants_the_same(memory, small):
    began, may_end, made = threading.Event(), threading.Event(), []

    def slow(subject):
        began.set()
        assert may_end.wait(60)
        return len(subject.steps)

    slow_ones = [threading.Thread(target=lambda: made.append(memory.made(small, slow))) for _ in range(2)]
    for thread in slow_ones:
        thread.start()
    assert began.wait(60)
    assert memory.read(small)[1].steps == small.steps()
    assert memory.made(small, lambda subject: subject.name) == "small"
    may_end.set()
    for thread in slow_ones:
        thread.join()
    assert made == [5, 5]


def test_a_comparison_is_made_again_when_the_other_run_went_on(memory, small, tmp_path):
    other = recorder.create(Runs(tmp_path), "growing", TASK, MODEL, LONG)
    recorder.train(other, should_stop=lambda: True)

    def steps(subject, beside):
        return beside.info.steps_done

    first = memory.made(small, steps, beside=other)
    assert memory.made(small, lambda subject, beside: beside.name, beside=other) == "growing"
    goes_on = iter([False] * 3)
    recorder.train(other, should_stop=lambda: next(goes_on, True))
    assert memory.made(small, steps, beside=other) > first


def test_a_view_whose_code_has_changed_is_made_again(memory, small):
    """As when the app reloads a file: the new function has the name of the old one."""

    def code(answer: str):
        def film(subject):
            return answer

        return film

    old, new = code("old"), code("new")
    assert (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)
    assert memory.made(small, old) == "old"
    assert memory.made(small, new) == "new"


def test_a_value_is_made_once_until_its_version_changes():
    kept, made = Kept(1000, nbytes), []

    def make(before):
        made.append(before)
        return f"value {len(made)}"

    assert [kept.get("key", version, make) for version in (1, 1, 2, 2)] == ["value 1", "value 1", "value 2", "value 2"]
    assert made == [None, "value 1"]  # whoever makes it again is given what was there


def test_what_is_kept_is_bounded_in_bytes_and_what_was_used_last_stays():
    kept, made = Kept(1000, nbytes), []

    def get(key):
        return kept.get(key, 0, lambda before: made.append(key) or np.zeros(50))  # 400 bytes

    for key in ("a", "b", "a", "c", "a", "b"):
        get(key)
    assert made == ["a", "b", "c", "b"]  # c took the place of b, which was used longer ago than a


def test_a_value_larger_than_all_the_room_is_given_and_not_kept():
    kept, made = Kept(1000, nbytes), []
    for _ in range(2):
        assert kept.get("key", 0, lambda before: made.append(1) or np.zeros(1000)).shape == (1000,)
    assert len(made) == 2
