"""The batcher on real event loops, with real sessions and real threads."""

import asyncio
import threading
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import uvloop
from batching_models import POISON, Doubling, costs, masked_mean, session, table
from graphs_from_elsewhere import linear, model
from onnx import TensorProto, helper

from mlctl.errors import OutOfMemory, StepFailed
from mlctl.runtime.answers import Arrays
from mlctl.runtime.session import OnnxSession
from mlctl.serving.batching import batcher as batcher_module
from mlctl.serving.batching.batcher import Batcher
from mlctl.serving.batching.computing import Model
from mlctl.serving.batching.loading import load_batcher
from mlctl.serving.batching.workers import FastWorker, ThreadWorkers, choose_worker, usable_cores
from mlctl.serving.inference import Inference
from mlctl.serving.refusals import Broken, Busy, Late, Malformed, NotReady, Refused
from mlctl.serving.settings import Batching, Execution
from mlctl.serving.telemetry.statistics import ModelStatistics

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
Run = Callable[[Coroutine[Any, Any, None]], None]


class Callers:
    """Requests to one batcher, and what came back for each, by its number."""

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher
        self.found: dict[int, Arrays | Refused] = {}

    def ask(self, number: int, inputs: Arrays, seconds: float = 60.0) -> Inference:
        def answered(answer: Arrays | Refused) -> None:
            assert number not in self.found
            self.found[number] = answer

        now = time.monotonic()
        inference = Inference(inputs, answered, now + seconds, now)
        self.batcher.submit(inference)
        return inference

    def outputs(self, number: int) -> Arrays:
        found = self.found[number]
        assert not isinstance(found, Refused), found
        return found


def rows(value: float, count: int = 1, length: int = 3) -> Arrays:
    return (np.full((count, length, 1), value, np.float32),)


def doubling(
    graph: Any, *, threads: int | None = 1, batching: Batching | None = None, max_size: int = 8
) -> tuple[Callers, ModelStatistics]:
    """Callers of a model in NumPy, on threads; inline without any."""
    statistics = ModelStatistics()
    compute = Model(graph, Doubling().layout, rows(0.5)).compute
    worker = FastWorker(compute, lambda _: True) if threads is None else ThreadWorkers(compute, threads)
    known = batching or Batching(max_size=max_size)
    return Callers(Batcher(Doubling().layout, costs(max_size), worker, known, statistics)), statistics


@LOOPS
def test_a_fast_model_answers_everybody_on_the_loop_itself(run: Run) -> None:
    graph, statistics = session(linear()), ModelStatistics()
    callers = Callers(load_batcher(graph, Execution(), Batching(), statistics))
    before = threading.active_count()
    inputs = np.random.default_rng(1).normal(size=(200, 1, 16)).astype(np.float32)

    async def ask() -> None:
        for number, each in enumerate(inputs):
            callers.ask(number, (each,))
        assert not callers.found
        await callers.batcher.drain()

    run(ask())
    assert threading.active_count() == before
    expected = graph((inputs[:, 0],))
    for number in range(200):
        # The same products, added in an order that the batch's size may change: 16 of them, of about 1.
        np.testing.assert_allclose(callers.outputs(number)[0], expected[number : number + 1], rtol=1e-5, atol=1e-5)
    assert (statistics.pending, statistics.succeeded, statistics.rows) == (0, 200, 200)
    assert statistics.batches == sum(each.batches for each in statistics.batch_sizes.values()) < 200
    assert statistics.request_seconds.count == statistics.queue_seconds.count == 200


@LOOPS
def test_threads_answer_everybody_with_sentences_of_every_length(run: Run) -> None:
    statistics = ModelStatistics()
    batcher = load_batcher(session(masked_mean()), Execution(workers=3), Batching(max_size=16), statistics)
    callers = Callers(batcher)
    dice = np.random.default_rng(2)
    sentences = [dice.integers(1, 200, (int(dice.integers(1, 4)), int(dice.integers(1, 40)))) for _ in range(300)]

    async def ask() -> None:
        for number, each in enumerate(sentences):
            callers.ask(number, (each, np.ones_like(each)))
            if number % 50 == 0:
                await asyncio.sleep(0.001)
        await batcher.drain()

    run(ask())
    batcher.close()
    words = table(200)
    for number, each in enumerate(sentences):
        # Means of at most 40 numbers of about 1: 40 roundings of 6e-8.
        np.testing.assert_allclose(callers.outputs(number)[0], words[each].mean(axis=1), rtol=0, atol=3e-6)
    assert statistics.succeeded == 300
    assert max(statistics.batch_sizes) <= 16


@LOOPS
def test_who_waits_for_a_stuck_worker_is_told_when_the_time_is_over(run: Run) -> None:
    graph = Doubling(gate=threading.Event())
    callers, statistics = doubling(graph)

    async def ask() -> None:
        callers.ask(0, rows(1.0))
        await asyncio.to_thread(graph.entered.acquire)
        began = time.monotonic()
        callers.ask(1, rows(2.0), seconds=0.1)
        callers.ask(2, rows(3.0), seconds=30.0)
        while 1 not in callers.found:
            await asyncio.sleep(0.005)
        # It may not be early, and half a second is late even for a machine that has much to do.
        assert 0.1 <= time.monotonic() - began < 0.6
        assert isinstance(callers.found[1], Late)
        assert graph.gate is not None
        graph.gate.set()
        await callers.batcher.drain()

    run(ask())
    callers.batcher.close()
    assert [float(callers.outputs(number)[0][0, 0, 0]) for number in (0, 2)] == [2.0, 6.0]
    assert statistics.failed == {"late": 1}
    # What was late was never computed.
    assert 2.0 not in {float(each) for batch in graph.batches for each in batch.ravel()}


@LOOPS
def test_a_long_batch_of_a_fast_model_holds_nobody_up_and_the_next_one_is_ready(run: Run) -> None:
    graph, statistics = Doubling(gate=threading.Event()), ModelStatistics()
    worker = FastWorker(Model(graph, graph.layout, rows(0.5)).compute, lambda _: False)
    callers = Callers(Batcher(graph.layout, costs(8), worker, Batching(max_size=8), statistics))

    async def ask() -> None:
        for number in range(3):
            callers.ask(number, rows(float(number)))
        # The loop goes on, though the thread is held up with the first three.
        await asyncio.to_thread(graph.entered.acquire)
        for number in range(3, 8):
            callers.ask(number, rows(float(number)))
            await asyncio.sleep(0.001)
        assert graph.gate is not None
        graph.gate.set()
        # Until somebody has an answer, the loop does nothing for it.
        assert graph.entered.acquire(timeout=30)
        assert not callers.found
        await callers.batcher.drain()
        callers.batcher.close()

    run(ask())
    assert [len(batch) for batch in graph.batches] == [3, 5]
    for number in range(8):
        assert np.array_equal(callers.outputs(number)[0], rows(2.0 * number)[0])
    assert statistics.succeeded == 8


@LOOPS
def test_a_thread_leaves_out_what_was_over_before_its_batch_began(run: Run) -> None:
    graph = Doubling(gate=threading.Event())
    callers, statistics = doubling(graph)

    async def ask() -> None:
        callers.ask(0, rows(1.0))
        await asyncio.to_thread(graph.entered.acquire)
        callers.ask(1, rows(2.0), seconds=0.1)
        dropped = callers.ask(2, rows(3.0))
        callers.ask(3, rows(4.0))
        while 1 not in callers.found:
            await asyncio.sleep(0.005)
        dropped.is_dropped = True
        assert graph.gate is not None
        graph.gate.set()
        await callers.batcher.drain()
        callers.batcher.close()

    run(ask())
    assert [batch[:, 0, 0].tolist() for batch in graph.batches] == [[1.0], [4.0]]
    assert statistics.failed == {"late": 1, "dropped": 1}
    assert sorted(callers.found) == [0, 1, 3]


@LOOPS
def test_a_fast_model_under_load_answers_everybody_on_its_thread_and_on_the_loop(run: Run) -> None:
    graph, statistics = Doubling(), ModelStatistics()
    worker = FastWorker(Model(graph, graph.layout, rows(0.5)).compute, lambda batch: len(batch) < 3)
    callers = Callers(Batcher(graph.layout, costs(8), worker, Batching(max_size=8, queue=4000), statistics))
    dice = np.random.default_rng(5)

    async def ask() -> None:
        for number in range(3000):
            inference = callers.ask(number, rows(float(number), count=int(dice.integers(1, 12))))
            inference.is_dropped = number % 50 == 7
            if dice.random() < 0.3:
                await asyncio.sleep(0)
        await callers.batcher.drain()
        callers.batcher.close()

    run(ask())
    for number in range(3000):
        if number % 50 != 7:
            assert np.unique(callers.outputs(number)[0]).tolist() == [2.0 * number]
    assert statistics.succeeded + statistics.failed.get("dropped", 0) == 3000
    assert statistics.pending == 0


@LOOPS
@pytest.mark.parametrize("threads", [None, 1])
def test_who_is_held_is_not_drained_before_the_request_on_its_way_is_answered(run: Run, threads: int | None) -> None:
    callers, _ = doubling(Doubling(), threads=threads)

    async def ask() -> None:
        first, second = callers.batcher.hold(), callers.batcher.hold()
        drained = asyncio.ensure_future(callers.batcher.drain())
        await asyncio.sleep(0)
        first()
        await asyncio.sleep(0)
        assert not drained.done()
        callers.ask(0, rows(1.0))
        second()
        await asyncio.wait_for(drained, 30.0)
        assert 0 in callers.found
        callers.batcher.close()

    run(ask())


def test_memory_stays_flat_under_ten_times_the_capacity() -> None:
    graph = Doubling(gate=threading.Event())
    queue, megabyte = 8, 1 << 18
    callers, statistics = doubling(graph, batching=Batching(max_size=8, queue=queue))
    refused: list[float | None] = []

    async def ask() -> None:
        tracemalloc.start()
        for number in range(10 * queue):
            try:
                callers.ask(number, rows(1.0, length=megabyte))
            except Busy as busy:
                refused.append(busy.retry_after)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # Those that wait, and the one that is refused at the moment; each has a megabyte.
        assert peak < (queue + 2) * 1.1 * 4 * megabyte
        assert graph.gate is not None
        graph.gate.set()
        await callers.batcher.drain()

    asyncio.run(ask())
    callers.batcher.close()
    assert len(refused) == 9 * queue
    assert all(each is not None and 0 < each < 1e6 for each in refused)
    assert (statistics.pending, statistics.succeeded, statistics.failed) == (0, queue, {"busy": 9 * queue})


def test_large_requests_are_refused_by_their_bytes_and_one_alone_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "MOST_BYTES", 1000)
    callers, _ = doubling(Doubling(), threads=None, max_size=512)

    async def ask() -> None:
        callers.ask(0, rows(1.0, count=100))
        with pytest.raises(Busy):
            callers.ask(1, rows(1.0))
        await callers.batcher.drain()
        # What is answered counts no more.
        for number in (2, 3):
            callers.ask(number, rows(3.0))
        await callers.batcher.drain()

    asyncio.run(ask())
    assert callers.outputs(0)[0].shape == (100, 3, 1)
    assert callers.outputs(2)[1].tolist() == [9.0]


@pytest.mark.parametrize("threads", [None, 1])
def test_a_poisonous_request_costs_nobody_else_an_answer(threads: int | None) -> None:
    graph = Doubling()
    callers, statistics = doubling(graph, threads=threads)

    async def ask() -> None:
        for number in range(8):
            callers.ask(number, rows(POISON if number == 5 else float(number)))
        await callers.batcher.drain()

    asyncio.run(ask())
    callers.batcher.close()
    assert len(graph.batches[0]) == 8
    assert isinstance(callers.found[5], Malformed)
    assert "a row is poisonous" in str(callers.found[5])
    assert [float(callers.outputs(number)[0][0, 0, 0]) for number in range(8) if number != 5] == [
        2.0 * number for number in range(8) if number != 5
    ]
    assert (statistics.succeeded, statistics.failed) == (7, {"malformed": 1})
    # Halves find one of eight in 1 + 2 + 2 + 2 batches, and a row that is good shows who is at fault.
    assert len(graph.batches) == 8


class Failing(Doubling):
    """It fails with what it is given to raise."""

    error: Exception = StepFailed("its device is gone")

    def all(self, inputs: Arrays) -> Arrays:
        raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StepFailed("its device is gone"), "its device is gone"),
        (OutOfMemory("no room"), "there is no memory for this request"),
        (MemoryError(), "there is no memory for this request"),
    ],
)
def test_a_model_that_fails_altogether_is_broken_and_no_callers_fault(error: Exception, words: str) -> None:
    graph = Failing()
    graph.error = error
    callers, statistics = doubling(graph, threads=None)

    async def ask() -> None:
        for number in range(3):
            callers.ask(number, rows(1.0))
        await callers.batcher.drain()

    asyncio.run(ask())
    assert {(type(each), str(each)) for each in callers.found.values()} == {(Broken, words)}
    assert statistics.failed == {"failed": 3}


class Bug(Exception):
    """What nobody foresaw."""


class Buggy(Doubling):
    """It raises what no session should for a row of zeros."""

    def all(self, inputs: Arrays) -> Arrays:
        if (inputs[0] == 0).all():
            raise Bug("an error in the server itself")
        return super().all(inputs)


@pytest.mark.parametrize("threads", [None, 1])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_answers_its_batch_and_stops_nothing(threads: int | None) -> None:
    before = set(threading.enumerate())
    callers, statistics = doubling(Buggy(), threads=threads)
    own = set(threading.enumerate()) - before
    raised: list[BaseException] = []

    async def ask() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
        for value in (0.0, 1.0):
            callers.ask(int(value), rows(value))
            await callers.batcher.drain()

    asyncio.run(ask())
    callers.batcher.close()
    for each in own:
        # Its thread reports the bug after the batch is answered, and another one is in its place.
        each.join(10)
    assert isinstance(callers.found[0], Broken)
    assert "server itself" not in str(callers.found[0])
    assert callers.outputs(1)[1].tolist() == [3.0]
    assert [type(each) for each in raised] == ([Bug] if threads is None else [])
    assert statistics.pending == 0


@LOOPS
def test_a_caller_who_raises_is_reported_and_the_others_are_answered(run: Run) -> None:
    callers, statistics = doubling(Doubling(), threads=None)
    raised: list[BaseException] = []

    def broken(answer: Arrays | Refused) -> None:
        raise ConnectionError("this connection broke")

    async def ask() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
        callers.ask(0, rows(1.0))
        callers.batcher.submit(Inference(rows(2.0), broken, time.monotonic() + 60))
        callers.ask(1, rows(3.0))
        await callers.batcher.drain()

    run(ask())
    assert [type(each) for each in raised] == [ConnectionError]
    assert [callers.outputs(number)[1].tolist() for number in (0, 1)] == [[3.0], [9.0]]
    assert statistics.succeeded == 3


def test_callers_who_have_gone_are_not_computed() -> None:
    graph = Doubling()
    callers, statistics = doubling(graph, threads=None)

    async def ask() -> None:
        callers.ask(0, rows(1.0)).is_dropped = True
        callers.ask(1, rows(2.0))
        await callers.batcher.drain()

    asyncio.run(ask())
    assert list(callers.found) == [1]
    assert [each.ravel().tolist() for each in graph.batches] == [[2.0] * 3]
    assert statistics.failed == {"dropped": 1}


def test_a_request_larger_than_a_batch_is_split_and_joined_and_one_refusal_refuses_it_whole() -> None:
    graph = Doubling()
    callers, statistics = doubling(graph, threads=2)
    good, bad = np.arange(300, dtype=np.float32).reshape(100, 3, 1), np.ones((30, 3, 1), np.float32)
    bad[17, 0] = POISON

    async def ask() -> None:
        callers.ask(0, (good,))
        callers.ask(1, (bad,))
        await callers.batcher.drain()

    asyncio.run(ask())
    callers.batcher.close()
    assert np.array_equal(callers.outputs(0)[0], good * 2)
    assert np.array_equal(callers.outputs(0)[1], good.sum(axis=(1, 2)))
    assert isinstance(callers.found[1], Malformed)
    assert max(len(each) for each in graph.batches) <= 8
    assert (statistics.succeeded, statistics.failed, statistics.pending) == (1, {"malformed": 1}, 0)


def test_drain_waits_for_what_was_accepted_and_close_refuses_what_comes_after() -> None:
    graph = Doubling(gate=threading.Event())
    callers, _ = doubling(graph)

    async def ask() -> None:
        await callers.batcher.drain()
        for number in range(20):
            callers.ask(number, rows(float(number)))
        drained = asyncio.ensure_future(callers.batcher.drain())
        await asyncio.to_thread(graph.entered.acquire)
        assert not drained.done()
        assert graph.gate is not None
        graph.gate.set()
        await drained
        assert len(callers.found) == 20
        callers.batcher.close()
        callers.batcher.close()
        with pytest.raises(NotReady):
            callers.ask(20, rows(1.0))

    asyncio.run(ask())


def test_closing_ends_the_threads_and_refuses_what_waits() -> None:
    graph = Doubling(gate=threading.Event())
    before = set(threading.enumerate())
    callers, _ = doubling(graph, threads=2, max_size=1)
    own = set(threading.enumerate()) - before
    assert len(own) == 2

    async def ask() -> None:
        for number in range(5):
            callers.ask(number, rows(1.0))
        for _ in range(2):
            await asyncio.to_thread(graph.entered.acquire)
        callers.batcher.close()
        assert graph.gate is not None
        graph.gate.set()
        await callers.batcher.drain()

    asyncio.run(ask())
    for each in own:
        each.join(10)
        assert not each.is_alive()
    assert sorted(type(each).__name__ for each in callers.found.values()) == ["NotReady"] * 3 + ["tuple"] * 2


def test_a_loop_that_was_closed_under_a_batch_harms_nothing() -> None:
    graph = Doubling(gate=threading.Event())
    callers, _ = doubling(graph)

    async def ask() -> None:
        callers.ask(0, rows(1.0))
        await asyncio.to_thread(graph.entered.acquire)

    asyncio.run(ask())
    assert graph.gate is not None
    graph.gate.set()
    callers.batcher.close()
    assert callers.found == {}


def echoed() -> OnnxSession:
    """text [rows, 2] as it is."""
    shape: tuple[int, list[int | str | None]] = (int(TensorProto.STRING), ["rows", 2])
    return session(model([helper.make_node("Identity", ["text"], ["said"])], {"text": shape}, {"said": shape}, {}))


def test_strings_are_joined_and_one_that_is_no_unicode_harms_nobody() -> None:
    callers = Callers(load_batcher(echoed(), Execution(workers=1), Batching(), ModelStatistics()))

    async def ask() -> None:
        for number, word in enumerate(("one", "\ud800", "three")):
            callers.ask(number, (np.array([[word, "·"]], object),))
        await callers.batcher.drain()

    asyncio.run(ask())
    assert callers.outputs(0)[0].tolist() == [["one", "·"]]
    assert callers.outputs(2)[0].tolist() == [["three", "·"]]
    assert isinstance(callers.found[1], Malformed)


def test_a_row_that_the_graph_does_not_take_is_the_callers_fault() -> None:
    callers = Callers(load_batcher(session(masked_mean()), Execution(workers=1), Batching(), ModelStatistics()))
    words: list[npt.NDArray[np.int64]] = [np.array([[number, number]]) for number in (5, 1000, 7)]

    async def ask() -> None:
        for number, each in enumerate(words):
            callers.ask(number, (each, np.ones_like(each)))
        await callers.batcher.drain()

    asyncio.run(ask())
    callers.batcher.close()
    assert isinstance(callers.found[1], Malformed)
    for number in (0, 2):
        # The mean of a number and itself.
        assert np.array_equal(callers.outputs(number)[0], table(200)[words[number][:, 0]])


def test_uvloop_counts_by_the_clock_that_deadlines_are_on() -> None:
    async def look() -> None:
        # It counts whole milliseconds, from the beginning of its turn.
        assert abs(asyncio.get_running_loop().time() - time.monotonic()) < 0.2

    uvloop.run(look())


@pytest.mark.parametrize(
    ("execution", "is_fast", "places"),
    [
        (Execution(), True, 0),
        (Execution(workers=1), True, 0),
        (Execution(workers=1), False, 1),
        (Execution(workers=3), True, 3),
        (Execution(), False, usable_cores()),
        (Execution(intra_op_threads=10_000), False, 1),
        (Execution(device="cuda"), True, 1),
        (Execution(device="cuda:1", workers=2), True, 2),
    ],
)
def test_a_worker_is_chosen_for_the_model_and_the_machine(execution: Execution, is_fast: bool, places: int) -> None:
    is_short = (lambda _: True) if is_fast else None
    worker = choose_worker(Model(Doubling(), Doubling().layout).compute, execution, is_short)
    assert isinstance(worker, FastWorker) == (places == 0)
    assert worker.places == max(1, places)
    worker.close()
