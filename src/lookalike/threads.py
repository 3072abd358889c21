"""Work that is done ahead, in all cores."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

# Tasks done, or being done, before anybody has asked for them.
_AHEAD = 16

A = TypeVar("A")
B = TypeVar("B")


def ahead(work: Callable[[A], B], tasks: Iterable[A]) -> Generator[B, None, None]:
    """Map in order, a few tasks ahead: `Executor.map` would take them all, and hold all their results.

    It serves work that lets go of the interpreter's lock, as Pillow does while it decodes and draws. Whoever may stop
    before the end closes the iterator, and what has not been begun is dropped.

    Args:
        work: what is done to each task, in a thread of its own; its exceptions come where its result would.
        tasks: what is worked on.
    """
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(work, task))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
