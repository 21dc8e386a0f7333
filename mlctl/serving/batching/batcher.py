"""One version's requests: taken in, joined, computed, answered. Only the event loop calls it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from time import monotonic, time
from typing import Final

from mlctl.runtime.answers import Arrays
from mlctl.serving.batching.alarm import Alarm
from mlctl.serving.batching.computing import Computed
from mlctl.serving.batching.costs import Costs
from mlctl.serving.batching.draining import Draining
from mlctl.serving.batching.forming import form
from mlctl.serving.batching.layout import Layout
from mlctl.serving.batching.outbox import Outbox
from mlctl.serving.batching.queue import Queue
from mlctl.serving.batching.waiting import Waiting, Whole
from mlctl.serving.batching.workers import Worker
from mlctl.serving.inference import Inference
from mlctl.serving.refusals import Broken, Busy, Late, NotReady, Refused
from mlctl.serving.settings import Batching
from mlctl.serving.telemetry.statistics import ModelStatistics

DROPPED: Final = "dropped"
"""The reason, for statistics, of requests whose callers went before they had an answer."""
MOST_BYTES: Final = 256 << 20
"""Of the rows of all accepted requests, beside their number: a thousand of the largest size would take 64 GB."""
_AFTER_DEADLINE: Final = 0.002
"""uvloop counts whole milliseconds; before the deadline nobody is late."""
_GONE: Final = "the model is not served any more"


class Batcher:
    """Work-conserving: an idle worker takes what is there, what arrives meanwhile is the next batch.

    Every request that was accepted is answered once, or refused once, or its caller has gone. Times are those of
    `time.monotonic`, which event loops count by.
    """

    def __init__(
        self,
        layout: Layout,
        costs: Costs,
        worker: Worker,
        batching: Batching,
        statistics: ModelStatistics,
        *,
        clock: Callable[[], float] = monotonic,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """The loop is the one on which the first request comes, unless it is given."""
        self.costs = costs
        self._layout = layout
        self._worker = worker
        self._most_started = worker.places + 1
        """One is taken ahead, so that a worker has it at hand when it has finished another."""
        self._batching = batching
        self._delay = batching.max_delay_ms / 1000
        self._statistics = statistics
        self._clock = clock
        self._waiting = Queue()
        self._bytes = 0
        self._running: list[list[Waiting]] = []
        self._accepted = 0
        self._is_scheduled = False
        self._is_starting = False
        self._is_ahead_open = False
        """Whether a batch that was taken ahead has room for more, and is all that waited."""
        self._is_closed = False
        self._sweeping = Alarm(self._sweep)
        self._holding = Alarm(self._turn)
        self._draining = Draining(lambda: not (self._accepted or self._running or self._outbox))
        self._outbox = Outbox(self._draining.tell)
        self._loop = loop

    def submit(self, inference: Inference) -> None:
        """Take a request in; `inference.answered` is called later.

        Raises Busy where the queue is full, NotReady after `close`.
        """
        waiting = self._admitted(inference)
        if not inference.arrived:
            inference.arrived = self._clock()
        self._accepted += 1
        self._bytes += waiting.bytes
        self._statistics.pending += 1
        self._waiting.put(waiting)
        if (over := inference.deadline + _AFTER_DEADLINE) < self._sweeping.at:
            self._sweeping.set(self._own_loop, over)
        if not self._is_scheduled and (self._is_ahead_open or len(self._running) < self._most_started):
            self._schedule()

    def hold(self) -> Callable[[], None]:
        """Not be drained before what this gives is called: a request is on its way."""
        return self._draining.hold()

    async def drain(self) -> None:
        """Wait until nothing is left of what was accepted, and nobody holds it."""
        await self._draining.wait()

    def close(self) -> None:
        """Take no more requests, and refuse those that wait as NotReady; batches that are computed are answered."""
        if self._is_closed:
            return
        self._is_closed = True
        if len(self._running) > self._worker.places:
            self._take_back()
        for each in self._waiting.emptied():
            self._refuse(each, NotReady(_GONE))
        self._sweeping.clear()
        self._holding.clear()
        self._worker.close()
        if self._outbox:
            self._own_loop.call_soon(self._outbox.send, self._own_loop)

    @property
    def _own_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def _admitted(self, inference: Inference) -> Waiting:
        if self._is_closed:
            raise NotReady(_GONE)
        inputs = inference.inputs
        rows, size = len(inputs[0]), sum([each.nbytes for each in inputs])
        if len(self._waiting) >= self._batching.queue or (self._accepted and self._bytes + size > MOST_BYTES):
            self._statistics.pending += 1
            self._statistics.refused(Busy.reason)
            raise Busy("too many requests wait for this model", retry_after=self._seconds_left())
        key, length = self._layout.key_of(inputs)
        if rows == 1 or not self.costs.can_join or rows <= (most := self.costs.best(self._batching.max_size, length)):
            waiting = Waiting(inference, inputs, key, length)
        else:
            waiting = Whole(inference, key, length, most).first_part()
        waiting.bytes = size
        return waiting

    def _seconds_left(self) -> float:
        """Until what was accepted is computed, about: as if all were like the oldest."""
        oldest = next(self._unfinished())
        rows = oldest.rows * max(1, len(self._waiting))
        size = self.costs.best(rows, oldest.length)
        return self.costs.price(size, oldest.length) * rows / size / self._worker.places

    def _schedule(self) -> None:
        # After this turn's reads: what all ready sockets brought is one batch.
        self._is_scheduled = True
        self._own_loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Give idle workers what is there."""
        self._is_scheduled = False
        try:
            self._feed()
        finally:
            self._outbox.send(self._own_loop)

    def _feed(self) -> None:
        if self._is_ahead_open and self._waiting:
            self._take_back()
        while self._waiting and len(self._running) < self._most_started:
            now = self._clock()
            if self._delay and self._is_held(now):
                return
            batch = self._take(now)
            if not batch:
                continue
            self._running.append(batch)
            self._is_starting = True
            try:
                self._worker.start(batch, self._finished, self._own_loop)
            finally:
                self._is_starting = False
                is_over = not any([each is batch for each in self._running])
                if is_over and self._waiting:
                    self._schedule()
            if is_over:
                return
            is_all = len(self._running) > self._worker.places and not self._waiting
            self._is_ahead_open = is_all and sum([each.rows for each in batch]) < self._full(batch[0])

    def _take_back(self) -> None:
        """Let what was taken ahead be formed anew, with what has come since, unless a worker has begun it."""
        self._is_ahead_open = False
        batch = self._worker.take_back()
        if batch is None:
            return
        self._running = [each for each in self._running if each is not batch]
        for each in batch:
            each.is_taken = False
        self._waiting.put_back([each for each in batch if not each.is_settled])

    def _full(self, oldest: Waiting) -> int:
        """Rows of the largest batch that this request would be the oldest of."""
        return self.costs.best(self._batching.max_size, oldest.length)

    def _finished(self, batch: list[Waiting], computed: list[Computed] | None) -> None:
        """Note what became of a batch, and give its worker the next one before anybody is told."""
        self._running = [each for each in self._running if each is not batch]
        now = self._clock()
        for each in self._running[self._worker.places - 1 :]:
            # It was taken ahead, and begins only now.
            for waiting in each:
                waiting.started = now
        self._settle(batch, computed, now)
        if not self._is_starting:
            self._turn()

    def _settle(self, batch: list[Waiting], computed: list[Computed] | None, now: float) -> None:
        if computed is None:
            for each in batch:
                self._refuse(each, Broken("the answer could not be computed"))
            return
        self._statistics.last_inference = time()
        for part in computed:
            if isinstance(part.answers, Refused):
                self._refuse(part.batch[0], part.answers)
                continue
            self._statistics.executed(part.rows, part.seconds)
            for waiting, outputs in zip(part.batch, part.answers, strict=True):
                if not waiting.is_settled:
                    self._answer(waiting, outputs, now, part.seconds)
        if sum([len(part.batch) for part in computed]) < len(batch):
            self._leave_out(batch, now)

    def _answer(self, waiting: Waiting, outputs: Arrays, now: float, seconds: float) -> None:
        whole, started = waiting.whole, waiting.started
        if whole is not None:
            if not whole.take(waiting, outputs, seconds):
                return
            outputs, started, seconds = whole.joined(), whole.parts[0].started, whole.seconds
        arrived = waiting.inference.arrived
        self._statistics.answered(max(0.0, now - arrived), max(0.0, started - arrived), seconds)
        self._leave(waiting)
        self._outbox.put(waiting.inference, outputs)

    def _refuse(self, waiting: Waiting, refused: Refused) -> None:
        if waiting.is_settled:
            return
        self._statistics.refused(DROPPED if waiting.inference.is_dropped else refused.reason)
        self._leave(waiting)
        self._outbox.put(waiting.inference, refused)

    def _leave(self, waiting: Waiting) -> None:
        waiting.is_settled = True
        if waiting.whole is not None:
            waiting.whole.settle()
        self._accepted -= 1
        self._bytes -= waiting.bytes

    def _is_held(self, now: float) -> bool:
        """Whether the next batch may wait for company; a turn is set for when it may not any more."""
        oldest = self._waiting.oldest
        until = oldest.inference.arrived + self._delay
        self._holding.clear()
        if now >= until or sum([each.rows for each in self._waiting]) >= self._full(oldest):
            return False
        self._holding.set(self._own_loop, until)
        return True

    def _take(self, now: float) -> list[Waiting]:
        """The next batch, out of the queue; empty where none of the oldest requests is to be computed any more."""
        window = self._waiting.window(self.costs.best(self._batching.max_size) * self._worker.places)
        live = [each for each in window if each.is_live(now)]
        if len(live) < len(window):
            self._leave_out(window, now)
        batch: list[Waiting] = []
        if live:
            batch = form(live, self.costs, self._batching.padding, self._worker.places - len(self._running))
        for each in batch:
            each.is_taken = True
            each.started = now
        self._waiting.replace(window, [each for each in live if not each.is_taken] if len(batch) < len(live) else ())
        for each in batch:
            if each.whole is not None and (part := each.whole.part_after(each)) is not None:
                self._waiting.put(part)
        return batch

    def _leave_out(self, requests: Sequence[Waiting], now: float) -> None:
        """Refuse those that are late or whose callers have gone."""
        for each in requests:
            if not each.is_live(now):
                self._refuse(each, Late("the time for this request was over before it was computed"))

    def _unfinished(self) -> Iterator[Waiting]:
        """What waits, and what is computed."""
        yield from self._waiting
        for batch in self._running:
            yield from batch

    def _sweep(self) -> None:
        """Tell those whose time is over, even where no worker comes back."""
        now = self._clock()
        self._leave_out(list(self._unfinished()), now)
        self._waiting.keep_unsettled()
        left = [each for each in self._unfinished() if not each.is_settled]
        if left:
            self._sweeping.set(self._own_loop, min([each.inference.deadline for each in left]) + _AFTER_DEADLINE)
        self._outbox.send(self._own_loop)
