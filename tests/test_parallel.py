"""The ordered parallel map with bounded look-ahead."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from lookalike import parallel


def test_results_come_in_the_order_of_their_tasks() -> None:
    def work(task: int) -> int:
        time.sleep(0.002 * (task % 3))
        return task * task

    assert list(parallel.prefetch_map(work, range(50))) == [n * n for n in range(50)]
    assert list(parallel.prefetch_map(work, ())) == []


def test_only_a_few_tasks_are_taken_ahead() -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for task in range(1000):
            taken.append(task)
            yield task

    with closing(parallel.prefetch_map(lambda task: task, tasks())) as results:
        assert next(results) == 0
        assert len(taken) < 10 * parallel.available_cores()


def test_an_error_is_raised_in_place_of_its_result() -> None:
    results = parallel.prefetch_map(lambda task: 6 // (3 - task), range(5))
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_early_drops_the_tasks_that_did_not_begin() -> None:
    begun, gate = [], threading.Event()

    def work(task: int) -> int:
        begun.append(task)
        gate.wait(0.01)
        return task

    with closing(parallel.prefetch_map(work, range(1000))) as results:
        next(results)
    done = len(begun)
    assert done < 10 * parallel.available_cores() + 100
    time.sleep(0.03)
    assert len(begun) == done


def test_a_shared_pool_keeps_working_after_closing_early() -> None:
    begun, gate = [], threading.Event()

    def work(task: int) -> int:
        begun.append(task)
        return task if task == 0 or gate.wait(60) else -1

    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(gate.wait, 60)
        with closing(parallel.prefetch_map(work, range(1000), pool)) as results:
            assert next(results) == 0
        last = pool.submit(lambda: 7)
        gate.set()
        assert last.result() == 7
        assert other.result()
    assert len(begun) <= 2


def test_available_cores_are_those_of_the_process() -> None:
    if not hasattr(os, "sched_setaffinity"):  # other systems do not have it
        assert parallel.available_cores() == os.cpu_count()
        return
    allowed = os.sched_getaffinity(0)
    assert parallel.available_cores() == len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert parallel.available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
