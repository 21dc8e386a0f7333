"""Work on what comes next while what came before is used."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa

MOST_WORKERS = 8
"""Each holds a block in memory, and one process reads from one disk."""

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def worked_ahead(items: Iterable[ItemT], work: Callable[[ItemT], ResultT]) -> Iterator[tuple[ItemT, ResultT]]:
    """Every item with its result, in the order of the items, whatever the number of threads.

    As many threads work as pyarrow uses (`pa.cpu_count()`), at most 8; one item more than that is taken in advance.
    """
    workers = min(pa.cpu_count(), MOST_WORKERS)
    waiting: deque[tuple[ItemT, Future[ResultT]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > workers:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
