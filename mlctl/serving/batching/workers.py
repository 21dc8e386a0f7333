"""Who computes batches: the event loop itself, or threads beside it."""

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol, TypeAlias

from mlctl.runtime.machine import control_groups, processor_quota
from mlctl.serving.batching.computing import Computed
from mlctl.serving.batching.waiting import Waiting
from mlctl.serving.settings import Execution

Compute: TypeAlias = Callable[[list[Waiting]], list[Computed]]
Finished: TypeAlias = Callable[[list[Waiting], list[Computed] | None], None]
"""Called once on the event loop for every batch; with None where computing it raised what nobody foresaw. Requests that
were over already may be missing in what was computed."""
IsShort: TypeAlias = Callable[[list[Waiting]], bool]
"""Whether a batch is expected to take so little time that everybody may wait for it."""
_Job: TypeAlias = tuple[list[Waiting], Finished, asyncio.AbstractEventLoop]


class Worker(Protocol):
    """Takes batches, as many at once as it has places."""

    @property
    def places(self) -> int:
        """Batches that are computed side by side."""

    def start(self, batch: list[Waiting], finished: Finished, loop: asyncio.AbstractEventLoop) -> None:
        """Compute a batch: before this returns, or beside the event loop.

        There is a place for it, or for all but one: that is begun as soon as there is a place, without the requests
        that were over by then.
        """

    def take_back(self) -> list[Waiting] | None:
        """A batch that was started and that nobody has begun to compute: it is not started any more. None without."""

    def close(self) -> None:
        """Take no more; what was started is finished."""


class FastWorker:
    """Computes what is short on the event loop, faster than a thread is woken; what is longer on a thread.

    So nobody's request is read late because of others' rows, and reading them and answering costs the model no time.
    """

    places = 1

    def __init__(self, compute: Compute, is_short: IsShort, beside: Callable[[Compute], Worker] | None = None) -> None:
        """`beside` gives who computes what is longer, once there is such a batch: a thread, unless it is given."""
        self._compute = compute
        self._is_short = is_short
        self._beside = beside or (lambda compute: ThreadWorkers(compute, 1))
        self._other: Worker | None = None
        self._started = 0

    def start(self, batch: list[Waiting], finished: Finished, loop: asyncio.AbstractEventLoop) -> None:
        """Compute the batch now, or give it to the thread."""
        if self._started or not self._is_short(batch):
            self._other = self._other or self._beside(self._compute)
            self._started += 1
            self._other.start(batch, partial(self._end, finished), loop)
            return
        computed = None
        try:
            computed = self._compute(batch)
        finally:
            finished(batch, computed)

    def take_back(self) -> list[Waiting] | None:
        """A batch that the thread has not begun."""
        batch = self._other.take_back() if self._other is not None else None
        self._started -= batch is not None
        return batch

    def close(self) -> None:
        """Let the thread end after its batches."""
        if self._other is not None:
            self._other.close()

    def _end(self, finished: Finished, batch: list[Waiting], computed: list[Computed] | None) -> None:
        self._started -= 1
        finished(batch, computed)


class ThreadWorkers:
    """Threads that call one session; the runtime computes without Python's lock."""

    def __init__(self, compute: Compute, count: int) -> None:
        self.places = count
        self._compute = compute
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        for _ in range(count):
            self._begin()

    def start(self, batch: list[Waiting], finished: Finished, loop: asyncio.AbstractEventLoop) -> None:
        """Give the batch to a thread that is idle."""
        self._jobs.put((batch, finished, loop))

    def take_back(self) -> list[Waiting] | None:
        """A batch that no thread has begun."""
        try:
            job = self._jobs.get_nowait()
        except Empty:
            return None
        return None if job is None else job[0]

    def close(self) -> None:
        """Let every thread end after its batch; nobody waits for it."""
        for _ in range(self.places):
            self._jobs.put(None)

    def _begin(self) -> None:
        # A model that never comes back must not keep the process from ending.
        threading.Thread(target=self._work, name="mlctl-batches", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, finished, loop = job
            computed = None
            try:
                wanted = [each for each in batch if not (each.is_settled or each.inference.is_dropped)]
                computed = self._compute(wanted) if wanted else []
            finally:
                if computed is None:
                    self._begin()
                _tell(loop, finished, batch, computed)
            # The last batch's rows must not stay in memory until there is another one.
            del job, batch, wanted, computed


def _tell(
    loop: asyncio.AbstractEventLoop, finished: Finished, batch: list[Waiting], computed: list[Computed] | None
) -> None:
    try:
        loop.call_soon_threadsafe(finished, batch, computed)
    except RuntimeError:
        # The loop was closed meanwhile: there is nobody left to tell.
        if not loop.is_closed():
            raise


def choose_worker(compute: Compute, execution: Execution, is_short: IsShort | None) -> Worker:
    """A fast worker on the CPU, where it is known what is short and one is enough; else as many threads as wanted.

    None wants as many as this process may use cores, fewer where one computation takes several of them; one where a
    device computes.
    """
    on_device = execution.device != "cpu"
    if is_short is not None and execution.workers in (None, 1) and not on_device:
        return FastWorker(compute, is_short)
    chosen = 1 if on_device else max(1, usable_cores() // (execution.intra_op_threads or 1))
    return ThreadWorkers(compute, execution.workers or chosen)


def usable_cores() -> int:
    """How many cores this process may use: affinity and control groups count."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    membership = Path("/proc/self/cgroup")
    if not membership.exists():
        return allowed
    quota = processor_quota(control_groups(membership.read_text(), Path("/sys/fs/cgroup")))
    return allowed if quota is None else max(1, min(allowed, round(quota)))
