"""The caches that all sessions share."""

import threading

import numpy as np
import pytest

from explorer.pages.cache import ByteCache, Caches, nbytes
from explorer.runs import Runs, recorder
from tests.conftest import LONG, MODEL, TASK


@pytest.fixture
def caches() -> Caches:
    return Caches(ByteCache(2**30, lambda run: run.nbytes), ByteCache(2**20, nbytes))


def test_a_slow_view_blocks_only_requests_for_the_same_view(caches, small):
    began, may_end, results = threading.Event(), threading.Event(), []

    def slow(subject):
        began.set()
        assert may_end.wait(60)
        return len(subject.steps)

    threads = [threading.Thread(target=lambda: results.append(caches.result(small, slow))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert began.wait(60)
    assert caches.load(small)[1].steps == small.steps()
    assert caches.result(small, lambda subject: subject.name) == "small"
    may_end.set()
    for thread in threads:
        thread.join()
    assert results == [5, 5]


def test_a_comparison_is_recomputed_when_the_other_run_grows(caches, small, tmp_path):
    other = recorder.create(Runs(tmp_path), "growing", TASK, MODEL, LONG)
    recorder.train(other, should_stop=lambda: True)

    def steps(subject, second):
        return second.info.steps_done

    first = caches.result(small, steps, second=other)
    assert caches.result(small, lambda subject, second: second.name, second=other) == "growing"
    continues = iter([False] * 3)
    recorder.train(other, should_stop=lambda: next(continues, True))
    assert caches.result(small, steps, second=other) > first


def test_a_view_whose_code_has_changed_is_recomputed(caches, small):
    """As when the app reloads a file: the new function has the name of the old one."""

    def code(answer: str):
        def film(subject):
            return answer

        return film

    old, new = code("old"), code("new")
    assert (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)
    assert caches.result(small, old) == "old"
    assert caches.result(small, new) == "new"


def test_a_value_is_computed_once_until_its_version_changes():
    cache, computed = ByteCache(1000, nbytes), []

    def compute(before):
        computed.append(before)
        return f"value {len(computed)}"

    assert [cache.get("key", version, compute) for version in (1, 1, 2, 2)] == [
        "value 1",
        "value 1",
        "value 2",
        "value 2",
    ]
    assert computed == [None, "value 1"]  # the second time with the outdated value


def test_the_cache_is_bounded_in_bytes_and_evicts_the_least_recently_used():
    cache, computed = ByteCache(1000, nbytes), []

    def get(key):
        return cache.get(key, 0, lambda before: computed.append(key) or np.zeros(50))  # 400 bytes

    for key in ("a", "b", "a", "c", "a", "b"):
        get(key)
    assert computed == ["a", "b", "c", "b"]  # c evicted b, which was used longer ago than a


def test_a_value_larger_than_the_cache_is_returned_and_not_stored():
    cache, computed = ByteCache(1000, nbytes), []
    for _ in range(2):
        assert cache.get("key", 0, lambda before: computed.append(1) or np.zeros(1000)).shape == (1000,)
    assert len(computed) == 2
