"""Ordered parallel map with bounded look-ahead."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

# Tasks per core that are submitted before the consumer needs their results.
_PREFETCH_PER_CORE = 8

A = TypeVar("A")
B = TypeVar("B")


def available_cores() -> int:
    """Count the cores that this process may use; they may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prefetch_map(
    function: Callable[[A], B], tasks: Iterable[A], pool: ThreadPoolExecutor | None = None
) -> Generator[B, None, None]:
    """Map a function over tasks in threads and yield the results in order.

    Unlike `Executor.map`, it takes only a few tasks ahead of the consumer, so memory is bounded. It suits work that
    releases the GIL, such as decoding by Pillow. A consumer that may stop early must close the iterator, which drops
    the tasks that have not started.

    Args:
        function: runs once for each task, in a thread. Its exception is raised in place of its result.
        tasks: the input.
        pool: threads to use, which may have other work. By default, a new pool with one thread for each core.
    """
    pending: deque[Future[B]] = deque()
    limit = _PREFETCH_PER_CORE * available_cores()
    with nullcontext(pool) if pool else ThreadPoolExecutor(available_cores()) as threads:
        try:
            for task in tasks:
                pending.append(threads.submit(function, task))
                if len(pending) > limit:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
