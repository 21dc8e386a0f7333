import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mlctl.errors import Interrupted
from mlctl.training.interrupts import DEFERRED, DeferredSignals

BOTH = pytest.mark.parametrize("number", DEFERRED)


@contextmanager
def handler(number: int, handle: Any) -> Iterator[None]:
    previous = signal.signal(number, handle)
    try:
        yield
    finally:
        signal.signal(number, previous)


def receive(number: int, *, times: int, then: BaseException) -> None:
    """Receive the signal some times in a deferring context, and raise an error after that."""
    with DeferredSignals():
        for _ in range(times):
            signal.raise_signal(number)
        raise then


@BOTH
def test_a_signal_waits_until_it_is_handed_over(number: signal.Signals) -> None:
    seen: list[int] = []

    def remember(given: int, frame: object) -> None:
        seen.append(given)

    with handler(number, remember), DeferredSignals() as signals:
        signal.raise_signal(number)
        assert (signals.received, seen) == (number, [])
        with pytest.raises(Interrupted) as interruption:
            signals.hand_over()
        assert seen == [number]
        assert interruption.value.exit_code == 128 + number
        assert signal.getsignal(number) is remember
        assert signals.received is None


def test_what_the_previous_handler_raises_comes_through() -> None:
    with handler(signal.SIGINT, signal.default_int_handler), DeferredSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signals.hand_over()


@BOTH
def test_a_second_signal_acts_at_once(number: signal.Signals) -> None:
    def refuse(given: int, frame: object) -> None:
        raise KeyError(given)

    with handler(number, refuse), pytest.raises(KeyError):
        receive(number, times=2, then=AssertionError("the second signal did nothing"))


def test_a_signal_that_nobody_handed_over_is_not_lost() -> None:
    seen: list[int] = []
    with handler(signal.SIGTERM, lambda number, frame: seen.append(number)):
        with pytest.raises(Interrupted), DeferredSignals():
            signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]


def test_an_error_on_the_way_is_not_hidden_by_a_signal() -> None:
    with handler(signal.SIGTERM, lambda number, frame: None), pytest.raises(ZeroDivisionError):
        receive(signal.SIGTERM, times=1, then=ZeroDivisionError())


def test_a_signal_that_the_process_ignores_stays_ignored() -> None:
    with handler(signal.SIGINT, signal.SIG_IGN), DeferredSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.received is None


def test_another_thread_changes_no_handler() -> None:
    during: list[object] = []

    def work() -> None:
        with DeferredSignals():
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == [signal.getsignal(signal.SIGTERM)]
