"""Who computes batches: the event loop itself, or threads beside it."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol, TypeAlias

from mlctl.runtime.machine import control_groups, processor_quota
from mlctl.serving.batching.computing import Computed
from mlctl.serving.batching.waiting import Waiting
from mlctl.serving.settings import Execution

Compute: TypeAlias = Callable[[list[Waiting]], list[Computed]]
Finished: TypeAlias = Callable[[list[Waiting], list[Computed] | None], None]
"""Called once on the event loop for every batch; with None where computing it raised what nobody foresaw."""
_Job: TypeAlias = tuple[list[Waiting], Finished, asyncio.AbstractEventLoop]


class Worker(Protocol):
    """Takes batches, as many at once as it has places."""

    @property
    def places(self) -> int:
        """Batches that are computed side by side."""

    @property
    def is_inline(self) -> bool:
        """Whether a batch is finished when `start` is."""

    def start(self, batch: list[Waiting], finished: Finished, loop: asyncio.AbstractEventLoop) -> None:
        """Compute a batch; there is a place for it."""

    def close(self) -> None:
        """Take no more; what was started is finished."""


class InlineWorker:
    """Computes on the event loop: for a model that answers faster than a thread is woken."""

    places = 1
    is_inline = True

    def __init__(self, compute: Compute) -> None:
        self._compute = compute

    def start(self, batch: list[Waiting], finished: Finished, loop: asyncio.AbstractEventLoop) -> None:
        """Compute the batch now."""
        computed = None
        try:
            computed = self._compute(batch)
        finally:
            finished(batch, computed)

    def close(self) -> None:
        """There is nothing to end."""


class ThreadWorkers:
    """Threads that call one session; the runtime computes without Python's lock."""

    is_inline = False

    def __init__(self, compute: Compute, count: int) -> None:
        self.places = count
        self._compute = compute
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        for _ in range(count):
            self._begin()

    def start(self, batch: list[Waiting], finished: Finished, loop: asyncio.AbstractEventLoop) -> None:
        """Give the batch to a thread that is idle."""
        self._jobs.put((batch, finished, loop))

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
                computed = self._compute(batch)
            finally:
                if computed is None:
                    self._begin()
                _tell(loop, finished, batch, computed)
            # The last batch's rows must not stay in memory until there is another one.
            del job, batch, computed


def _tell(
    loop: asyncio.AbstractEventLoop, finished: Finished, batch: list[Waiting], computed: list[Computed] | None
) -> None:
    try:
        loop.call_soon_threadsafe(finished, batch, computed)
    except RuntimeError:
        # The loop was closed meanwhile: there is nobody left to tell.
        if not loop.is_closed():
            raise


def choose_worker(compute: Compute, execution: Execution, *, is_fast: bool) -> Worker:
    """Inline for a fast model on the CPU with one worker; else as many threads as were asked for.

    None asks for as many as this process may use cores, fewer where one computation takes several of them; for one
    where a device computes.
    """
    on_device = execution.device != "cpu"
    if is_fast and execution.workers in (None, 1) and not on_device:
        return InlineWorker(compute)
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
