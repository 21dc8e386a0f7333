"""The batcher under every order of arrivals, completions, failures, deadlines and callers who go, on a clock by hand.

A row's answer is a function of its content, and every request's content is its own: a mix-up of two callers shows.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from batching_models import POISON, Doubling, Schedule, costs
from hypothesis import given, settings
from hypothesis import strategies as st

from mlctl.runtime.answers import Arrays
from mlctl.serving.batching.batcher import Batcher
from mlctl.serving.batching.computing import Computed, Model
from mlctl.serving.batching.waiting import Waiting
from mlctl.serving.batching.workers import Compute, FastWorker, Finished, Worker
from mlctl.serving.inference import Inference
from mlctl.serving.refusals import Broken, Busy, Late, Malformed, NotReady, Refused
from mlctl.serving.settings import Batching
from mlctl.serving.telemetry.statistics import ModelStatistics

QUEUE, MAX_SIZE, PADDING = 6, 4, 1.25
KNOWN_GOOD = np.full((1, 1, 1), 0.5, np.float32)


@dataclass(frozen=True)
class Arrive:
    rows: int
    length: int
    patience: float
    is_poisonous: bool = False
    raises: bool = False


@dataclass(frozen=True)
class Go:
    """The caller of one of the requests hangs up."""

    which: int


@dataclass(frozen=True)
class Tick:
    seconds: float


@dataclass(frozen=True)
class Turn:
    pass


@dataclass(frozen=True)
class Complete:
    which: int
    crashes: bool = False


@dataclass(frozen=True)
class Close:
    pass


STEPS = st.lists(
    st.one_of(
        st.builds(
            Arrive,
            st.integers(1, 10),
            st.integers(1, 6),
            st.sampled_from([0.5, 2.0, 50.0]),
            st.sampled_from([False, False, False, True]),
            st.sampled_from([False, False, False, True]),
        ),
        st.builds(Arrive, st.integers(1, 2), st.integers(3, 4), st.just(50.0)),
        st.builds(Go, st.integers(0, 30)),
        st.builds(Tick, st.sampled_from([0.1, 1.0, 3.0])),
        st.builds(Turn),
        st.builds(Complete, st.integers(0, 3), st.sampled_from([False, False, False, True])),
    ),
    min_size=8,
    max_size=40,
)


@dataclass(eq=False)
class Job:
    batch: list[Waiting]
    finished: Finished
    wanted: list[Waiting] | None = None
    """Of the batch, those that were not over when it was begun; None before."""


class ByHand:
    """Places for batches that are computed when the test says so, and one more."""

    def __init__(self, compute: Compute, places: int) -> None:
        self.places = places
        self.compute = compute
        self.jobs: list[Job] = []
        self.is_closed = False

    def start(self, batch: list[Waiting], finished: Finished, loop: object) -> None:
        assert not self.is_closed
        assert len(self.jobs) <= self.places
        self.jobs.append(Job(batch, finished))
        self.begin()

    def begin(self) -> None:
        for job in self.jobs[: self.places]:
            if job.wanted is None:
                job.wanted = [each for each in job.batch if not (each.is_settled or each.inference.is_dropped)]

    def complete(self, which: int, crashes: bool, loop: Schedule) -> None:
        if self.jobs:
            job = self.jobs.pop(which % min(self.places, len(self.jobs)))
            found = self.compute(job.wanted) if job.wanted else []
            loop.call_soon_threadsafe(job.finished, job.batch, None if crashes else found)
            self.begin()

    def take_back(self) -> list[Waiting] | None:
        return self.jobs.pop().batch if len(self.jobs) > self.places else None

    def close(self) -> None:
        self.is_closed = True


@dataclass(eq=False)
class Caller:
    """A request and what came back."""

    rows: np.ndarray[Any, np.dtype[np.float32]]
    asked: Arrive
    inference: Inference
    found: list[Arrays | Refused] = field(default_factory=list)


class World:
    """A batcher, its callers, and a clock.

    Batches have so many places; without any they are computed at once, with None only those of at most two rows are,
    and the others when the test says so.
    """

    def __init__(self, places: int | None, *, can_pad: bool = True, delay_ms: float = 0.0) -> None:
        self.loop = Schedule()
        self.session = Doubling()
        self.model = Model(self.session, self.session.layout, (KNOWN_GOOD,))
        self.statistics = ModelStatistics()
        self.times_computed: Counter[int] = Counter()
        self.by_hand = ByHand(self.computed, places or 1)
        self.worker: Worker = self.by_hand
        if not places:
            most = MAX_SIZE if places == 0 else 2
            self.worker = FastWorker(
                self.computed, lambda batch: sum(each.rows for each in batch) <= most, lambda _: self.by_hand
            )
        settings = Batching(MAX_SIZE, delay_ms, QUEUE, PADDING)
        known = costs(MAX_SIZE, can_pad=can_pad)
        self.batcher = Batcher(
            self.session.layout,
            known,
            self.worker,
            settings,
            self.statistics,
            clock=self.loop.time,
            loop=self.loop.loop,
        )
        self.callers: list[Caller] = []
        self.busy: list[Busy] = []
        self.numbers = iter(range(1, 10**6))

    def computed(self, batch: list[Waiting]) -> list[Computed]:
        self.times_computed.update(id(each) for each in batch)
        return self.model.compute(batch)

    def take(self, step: object) -> None:
        match step:
            case Arrive():
                self.arrive(step)
            case Go(which) if self.callers:
                self.callers[which % len(self.callers)].inference.is_dropped = True
            case Tick(seconds):
                self.loop.now += seconds
                self.loop.turn()
            case Turn():
                self.loop.turn()
            case Complete(which, crashes):
                self.by_hand.complete(which, crashes, self.loop)
            case _:
                pass
        self.check_always()

    def arrive(self, step: Arrive) -> None:
        rows = np.array([next(self.numbers) for _ in range(step.rows * step.length)], np.float32)
        rows = rows.reshape(step.rows, step.length, 1)
        if step.is_poisonous:
            rows[-1, 0] = POISON
        found: list[Arrays | Refused] = []

        def answered(answer: Arrays | Refused) -> None:
            found.append(answer)
            if step.raises:
                raise ConnectionError("this caller's connection broke")

        inference = Inference((rows,), answered, self.loop.now + step.patience)
        try:
            self.batcher.submit(inference)
        except Busy as busy:
            self.busy.append(busy)
        else:
            self.callers.append(Caller(rows, step, inference, found))

    def check_always(self) -> None:
        assert 0 <= self.statistics.pending <= len(self.callers)
        for each in self.callers:
            assert len(each.found) <= 1

    def end(self) -> None:
        """Let everything finish that can."""
        for _ in range(10_000):
            self.loop.turn()
            if self.by_hand.jobs:
                self.by_hand.complete(0, False, self.loop)
            elif not self.loop.ready:
                if not self.statistics.pending:
                    return
                # Only a timer is left: a wait for company.
                assert self.loop.timers
                self.loop.now = min(each.when() for each in self.loop.timers)
        raise AssertionError("the batcher never came to an end")

    def check_ended(self) -> None:
        assert self.statistics.pending == 0
        assert all(isinstance(each, ConnectionError) for each in self.loop.raised)
        assert len(self.loop.raised) == sum(each.asked.raises and bool(each.found) for each in self.callers)
        for each in self.callers:
            if each.inference.is_dropped:
                assert len(each.found) <= 1
            else:
                assert len(each.found) == 1
        found = [each.found[0] for each in self.callers if each.found]
        answered = sum(not isinstance(each, Refused) for each in found)
        assert answered <= self.statistics.succeeded <= len(self.callers)
        assert self.statistics.succeeded + sum(self.statistics.failed.values()) == len(self.callers) + len(self.busy)
        assert all(each.retry_after is not None and each.retry_after > 0 for each in self.busy)
        for each in self.callers:
            for one in each.found:
                self.check_answer(each, one)

    def check_answer(self, caller: Caller, found: Arrays | Refused) -> None:
        if isinstance(found, Refused):
            assert isinstance(found, Late | Broken | Malformed | NotReady)
            if isinstance(found, Malformed):
                assert caller.asked.is_poisonous
            if isinstance(found, Late):
                assert caller.inference.deadline <= self.loop.now
            return
        assert not caller.asked.is_poisonous
        assert np.array_equal(found[0], caller.rows * 2)
        # Sums of fewer than 2^24 in whole numbers are exact in float32.
        assert np.array_equal(found[1], caller.rows.sum(axis=(1, 2)))

    def check_batches(self) -> None:
        real = {float(each) for caller in self.callers for each in caller.rows.ravel()}
        for batch in self.session.batches:
            if batch is KNOWN_GOOD:
                continue
            assert len(batch) <= MAX_SIZE
            tokens = [each for each in batch.ravel() if float(each) in real]
            # Halves of a batch that failed may have more padding than the whole.
            assert batch.size <= PADDING * len(tokens) or POISON in real


@pytest.mark.parametrize(
    ("places", "delay_ms"), [(0, 0.0), (1, 0.0), (3, 0.0), (None, 0.0), (0, 1500.0), (2, 1500.0), (None, 1500.0)]
)
@settings(max_examples=200, deadline=None)
@given(steps=STEPS, can_pad=st.booleans())
def test_every_request_is_answered_once_with_its_own_rows_or_refused(
    steps: list[object], can_pad: bool, places: int | None, delay_ms: float
) -> None:
    world = World(places, can_pad=can_pad, delay_ms=delay_ms)
    for step in steps:
        world.take(step)
    world.end()
    world.check_ended()
    world.check_batches()
    crashed = Counter(type(each.found[0]) for each in world.callers if each.found)[Broken]
    assert crashed <= sum(isinstance(each, Complete) and each.crashes for each in steps) * MAX_SIZE


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, places=st.sampled_from([None, 0, 1, 2]))
def test_closing_refuses_what_waits_and_answers_what_is_computed(steps: list[object], places: int | None) -> None:
    world = World(places)
    for step in steps:
        world.take(step)
    world.batcher.close()
    world.end()
    world.check_ended()
    with pytest.raises(NotReady):
        world.batcher.submit(Inference((np.ones((1, 1, 1), np.float32),), lambda _: None, 1e9))


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, places=st.sampled_from([None, 0, 1, 2]))
def test_nothing_is_computed_for_callers_who_have_gone_or_are_late(steps: list[object], places: int | None) -> None:
    world = World(places)
    started: list[list[Waiting]] = []
    oldest = 0
    start = world.worker.start

    def watched(batch: list[Waiting], finished: Finished, loop: asyncio.AbstractEventLoop) -> None:
        nonlocal oldest
        for each in batch:
            assert not each.inference.is_dropped
            assert each.inference.deadline > world.loop.now
        started.append(batch)
        # Whoever waits longest is in the next batch, also in one that is formed anew.
        assert batch[0].number >= oldest
        oldest = batch[0].number
        start(batch, finished, loop)

    world.worker.start = watched  # type: ignore[method-assign]
    for step in steps:
        world.take(step)
    world.end()
    assert set(world.times_computed) <= {id(each) for batch in started for each in batch}
    assert all(count == 1 for count in world.times_computed.values())


@settings(max_examples=100, deadline=None)
@given(patience=st.lists(st.floats(0.01, 20.0), min_size=1, max_size=6))
def test_who_waits_is_told_in_time_though_the_worker_never_comes_back(patience: list[float]) -> None:
    world = World(1)
    for each in patience:
        world.take(Arrive(1, 1, each))
    for _ in range(400):
        world.take(Tick(0.06))
        for caller in world.callers:
            # A turn comes every 0.06 s, and the sweep 2 ms after the deadline.
            is_late = caller.inference.deadline + 0.07 < world.loop.now
            assert not is_late or isinstance(caller.found[0], Late)
    assert all(caller.found for caller in world.callers)


def test_an_idle_worker_takes_at_once_what_one_turn_brought_and_the_rest_is_the_next_batch() -> None:
    world = World(1)
    for _ in range(3):
        world.take(Arrive(1, 3, 50.0))
    world.take(Turn())
    for _ in range(2):
        world.take(Arrive(1, 3, 50.0))
    world.take(Turn())
    assert [len(job.batch) for job in world.by_hand.jobs] == [3, 2]
    world.take(Complete(0))
    world.take(Turn())
    assert [len(job.batch) for job in world.by_hand.jobs] == [2]
    assert [len(caller.found) for caller in world.callers] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("places", [None, 1])
def test_one_batch_is_taken_ahead_and_grows_until_it_is_full(places: int | None) -> None:
    world = World(places)

    def arrive(count: int) -> list[int]:
        for _ in range(count):
            world.take(Arrive(1, 3, 50.0))
        world.take(Turn())
        return [len(job.batch) for job in world.by_hand.jobs]

    assert arrive(3) == [3]
    assert arrive(1) == [3, 1]
    assert arrive(2) == [3, 3]
    assert arrive(2) == [3, 4]
    assert arrive(5) == [3, 4]
    world.take(Complete(0))
    world.take(Turn())
    assert [len(job.batch) for job in world.by_hand.jobs] == [4, 4]
    world.end()
    world.check_ended()
    assert [len(each) for each in world.session.batches] == [3, 4, 4, 2]


def test_what_was_taken_ahead_is_computed_without_those_who_went_or_were_late_meanwhile() -> None:
    world = World(None)
    for patience in (50.0, 50.0, 50.0):
        world.take(Arrive(1, 3, patience))
    world.take(Turn())
    for patience in (1.0, 50.0, 50.0, 50.0):
        world.take(Arrive(1, 3, patience))
    world.take(Turn())
    world.take(Go(4))
    world.take(Tick(2.0))
    assert [type(each) for each in world.callers[3].found] == [Late]
    world.take(Complete(0))
    world.take(Turn())
    world.take(Tick(1.0))
    world.take(Complete(0))
    world.take(Turn())
    assert [len(each) for each in world.session.batches] == [3, 2]
    assert world.statistics.failed == {"late": 1, "dropped": 1}
    # The two were computed 2 s after they came: until then another batch was.
    assert world.statistics.queue_seconds.total == pytest.approx(4.0)
    world.end()
    world.check_ended()


def test_a_delay_waits_for_company_until_the_batch_is_full() -> None:
    world = World(0, delay_ms=1000.0)
    for _ in range(3):
        world.take(Arrive(1, 3, 50.0))
    world.take(Tick(0.9))
    assert world.session.batches == []
    world.take(Arrive(1, 3, 50.0))
    world.take(Turn())
    assert [len(each) for each in world.session.batches] == [4]
    world.take(Arrive(1, 3, 50.0))
    world.take(Turn())
    assert len(world.session.batches) == 1
    world.take(Tick(1.0))
    assert [len(each) for each in world.session.batches] == [4, 1]


def test_the_parts_of_a_large_request_let_others_in_between() -> None:
    world = World(1)
    world.take(Arrive(30, 3, 50.0))
    world.take(Turn())
    world.take(Arrive(1, 3, 50.0))
    # One part is computed, one is ahead of it, and one was in the queue.
    for _ in range(4):
        world.take(Complete(0))
        world.take(Turn())
    assert [len(caller.found) for caller in world.callers] == [0, 1]
    world.end()
    world.check_ended()


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    world = World(1)
    for _ in range(QUEUE + 5):
        world.take(Arrive(1, 3, 50.0))
    assert (len(world.callers), len(world.busy)) == (QUEUE, 5)
    assert world.statistics.failed == {"busy": 5}
