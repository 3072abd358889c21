"""Work that is done ahead, in all cores."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

# Tasks for each core that are done, or being done, before anybody has asked for them.
_AHEAD = 8

A = TypeVar("A")
B = TypeVar("B")


def cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ahead(
    work: Callable[[A], B], tasks: Iterable[A], pool: ThreadPoolExecutor | None = None
) -> Generator[B, None, None]:
    """Map in order, a few tasks ahead: `Executor.map` would take them all, and hold all their results.

    It serves work that lets go of the interpreter's lock, as Pillow does while it decodes and draws. Whoever may stop
    before the end closes the iterator, and what has not been begun is dropped.

    Args:
        work: what is done to each task, in a thread of its own; its exceptions come where its result would.
        tasks: what is worked on.
        pool: its threads do the work, beside what else they are given; by default as many as there are cores, for this
            alone.
    """
    waiting: deque[Future[B]] = deque()
    most = _AHEAD * cores()
    with nullcontext(pool) if pool else ThreadPoolExecutor(cores()) as threads:
        try:
            for task in tasks:
                waiting.append(threads.submit(work, task))
                if len(waiting) > most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
