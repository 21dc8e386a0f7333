"""Work that a thread does ahead of its use."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

AHEAD = 2
"""Results that are made before they are asked for: one that is ready, and one under way."""


def prefetched(makers: Iterable[Callable[[], T]], ahead: int = AHEAD) -> Generator[T]:
    """What the makers give, in their order; one thread calls them, at most `ahead` of them before their turn.

    What one of them raises is raised where its result was due. Closing the generator waits for the call under way and
    drops the rest.
    """
    worker = ThreadPoolExecutor(1, "prefetching")
    waiting: deque[Future[T]] = deque()
    try:
        for make in makers:
            waiting.append(worker.submit(make))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        worker.shutdown(wait=True, cancel_futures=True)
