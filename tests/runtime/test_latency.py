"""Timed calls."""

import gc
from time import perf_counter

import numpy as np
import pytest

from mlctl.errors import DataError
from mlctl.events import Event, Progress
from mlctl.runtime.answers import Arrays, Model
from mlctl.runtime.latency import COUNTED, Fed, measure_latency, summary

ROWS = np.arange(10, dtype=np.float32)[:, None]


def busy(seconds: float) -> Model:
    def model(inputs: Arrays) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        end = perf_counter() + seconds
        while perf_counter() < end:
            pass
        return np.zeros(len(inputs[0]), np.float32)

    return model


def test_seconds_are_those_of_each_model() -> None:
    models = [("slow", busy(0.004)), ("fast", busy(0.001))]
    seconds = measure_latency(models, (ROWS,), batches=(1, 4), rounds=5, warmup=1)
    assert seconds.shape == (2, 2, 5)
    # A busy wait never ends early; a machine with other work may end one late, not the fastest of ten.
    assert seconds[0].min() >= 0.004
    assert seconds[1].min() >= 0.001
    assert seconds[1].min() < 0.003


def test_models_take_turns_and_another_one_goes_first() -> None:
    calls: list[tuple[str, int]] = []

    def recorded(name: str) -> Model:
        def model(inputs: Arrays) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            assert not gc.isenabled()
            calls.append((name, len(inputs[0])))
            return inputs[0]

        return model

    models = [(name, recorded(name)) for name in "abc"]
    measure_latency(models, (ROWS,), batches=(2, 5), rounds=3, warmup=1)
    assert [size for _, size in calls] == [2] * 12 + [5] * 12
    rounds = ["".join(name for name, _ in calls[start : start + 3]) for start in range(0, 12, 3)]
    assert rounds == ["cab", "abc", "bca", "cab"]


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_left_as_it_was(enabled: bool) -> None:
    def fails(inputs: Arrays) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        raise RuntimeError("broken")

    if not enabled:
        gc.disable()
    try:
        with pytest.raises(RuntimeError, match="broken"):
            measure_latency([("a", fails)], (ROWS,), batches=(1,), rounds=1, warmup=0)
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


def test_progress_is_told_now_and_then() -> None:
    told: list[Event] = []
    measure_latency([("a", busy(0.05))], (ROWS,), batches=(1, 2), rounds=5, warmup=0, tell=told.append)
    assert all(isinstance(event, Progress) and event.total == 10 for event in told)
    assert 1 <= len(told) < 10


def test_the_time_left_is_that_of_the_rounds_to_come() -> None:
    told: list[Event] = []
    measure_latency([("a", busy(0.03))], (ROWS,), batches=(1, 2), rounds=10, warmup=0, tell=told.append)
    first = next(event for event in told if isinstance(event, Progress))
    assert first.left is not None
    # Rounds of two rows are taken to last twice as long as those of one; another process may slow some down.
    expected = 0.03 * (10 - first.done + 10 * 2)
    assert 0.9 * expected < first.left < 3 * expected


def test_models_that_are_fed_get_their_own_inputs() -> None:
    taken: list[tuple[int, ...]] = []

    def recorded(inputs: Arrays) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        taken.append(inputs[0].shape)
        return inputs[0]

    fed = Fed(recorded, {1: (np.zeros((1, 7)),), 4: (np.zeros((4, 2, 2)),)})
    measure_latency([("a", fed)], COUNTED, batches=(4, 1), rounds=2, warmup=0)
    assert taken == [(4, 2, 2), (4, 2, 2), (1, 7), (1, 7)]


def test_quick_rounds_do_not_flood_the_listener() -> None:
    told: list[Event] = []
    measure_latency([("a", busy(0))], (ROWS,), batches=(1,), rounds=5000, warmup=0, tell=told.append)
    assert len(told) < 500


def test_percentiles_are_in_milliseconds() -> None:
    found = summary(np.arange(101) / 1000)
    assert (found.p50, found.p95, found.p99) == pytest.approx((50, 95, 99))
    assert found.calls == 101


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no rows to time"):
        measure_latency([("a", busy(0))], (ROWS[:0],), batches=(1,), rounds=1, warmup=0)
