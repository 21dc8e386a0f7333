"""What is measured of batches, and what is made of it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from batching_models import (
    at_most,
    dynamically_quantized,
    looked_up,
    masked_mean,
    mixing,
    session,
)
from graphs_from_elsewhere import linear, mean_of_words
from hypothesis import given
from hypothesis import strategies as st

from mlctl.errors import StepFailed
from mlctl.runtime.answers import Arrays
from mlctl.runtime.session import OnnxSession
from mlctl.serving.batching.costs import Costs, Curve
from mlctl.serving.batching.layout import layout_of
from mlctl.serving.batching.measuring import FAST_SECONDS, SLOW_SECONDS, Measured, measure

TIMES = st.floats(1e-6, 1e3)


@st.composite
def measured_costs(draw: st.DrawFn) -> Costs:
    """Curves as noise could make them: nothing about their times is in order."""
    lengths = draw(st.lists(st.integers(0, 600), min_size=1, max_size=4, unique=True).map(sorted))
    curves = []
    for length in lengths:
        sizes = [2**each for each in range(draw(st.integers(1, 7)))]
        curves.append(Curve(length, tuple(sizes), tuple(draw(TIMES) for _ in sizes)))
    return Costs(tuple(curves), draw(st.integers(1, 100)), can_join=draw(st.booleans()), can_pad=True)


@given(measured_costs(), st.integers(1, 200), st.integers(0, 1000))
def test_seconds_are_positive_and_grow_with_rows_and_length(costs: Costs, rows: int, length: int) -> None:
    here = costs.seconds(rows, length)
    # Interpolation rounds: the last bits of equal times may differ.
    slack = 1 - 1e-9
    assert here > 0
    assert costs.seconds(rows + 1, length) >= here * slack
    assert costs.seconds(rows, length + 1) >= here * slack
    assert costs.price(rows, length) == here


@given(measured_costs(), st.integers(1, 200), st.integers(0, 1000))
def test_the_best_batch_is_the_smallest_within_3_percent_of_the_most_rows_per_second(
    costs: Costs, rows: int, length: int
) -> None:
    best = costs.best(rows, length)
    most = min(rows, costs.max_size, min(curve.rows[-1] for curve in costs.curves))
    assert 1 <= best <= min(rows, costs.max_size)
    rate = best / costs.seconds(best, length)
    if costs.can_join:
        sizes = {size for curve in costs.curves for size in curve.rows if size <= most} | {most}
        rates = {size: size / costs.seconds(size, length) for size in sizes}
        assert rate >= 0.97 * max(rates.values()) * (1 - 1e-9)
        assert all(each < rate / 0.97 * (1 + 1e-9) for size, each in rates.items() if size < best)
    else:
        assert best == 1


def test_where_nothing_is_known_nothing_is_joined() -> None:
    costs = Costs((), 64, can_join=False, can_pad=False)
    assert (costs.best(64), costs.best(64, 30)) == (1, 1)
    assert costs.seconds(3) == pytest.approx(0.003)


def test_a_batch_costs_what_lies_between_the_sizes_around_it() -> None:
    costs = Costs((Curve(8, (1, 2, 4), (1.0, 2.0, 3.0)), Curve(16, (1, 2), (3.0, 4.0))), 4, True, True)
    assert costs.seconds(3, 8) == pytest.approx(2.5)
    assert costs.seconds(1, 12) == pytest.approx(2.0)
    assert costs.seconds(8, 8) == pytest.approx(6.0)
    assert costs.seconds(1, 32) == pytest.approx(6.0)
    assert costs.seconds(1, 2) == pytest.approx(1.0)


def measured(graph: OnnxSession, max_size: int = 16, given: tuple[Arrays, ...] = ()) -> Measured:
    return measure(graph, layout_of(graph.inputs, graph.outputs, 0), max_size, given)


class Slow:
    """A session whose calls take a second of a clock of their own for every row, and count them."""

    def __init__(self, graph: OnnxSession) -> None:
        self.graph = graph
        self.name, self.detail, self.inputs, self.outputs = graph.name, graph.detail, graph.inputs, graph.outputs
        self.now = 0.0
        self.sizes: list[int] = []

    def __call__(self, inputs: Arrays) -> npt.NDArray[Any]:
        return self.all(inputs)[0]

    def all(self, inputs: Arrays) -> Arrays:
        self.sizes.append(len(inputs[0]))
        self.now += 0.03 * len(inputs[0])
        return self.graph.all(inputs)


def test_a_small_model_is_fast_and_every_size_of_it_is_known() -> None:
    found = measured(session(linear()), 24)
    assert found.is_fast
    assert [curve.rows for curve in found.costs.curves] == [(1, 2, 4, 8, 16, 24)]
    assert (found.costs.can_join, found.costs.can_pad) == (True, False)
    assert found.costs.largest_difference <= found.costs.tolerance == 1e-4


def test_a_slow_model_is_called_until_larger_batches_do_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(session(linear()))
    monkeypatch.setattr("mlctl.serving.batching.measuring.perf_counter", lambda: slow.now)
    found = measure(slow, layout_of(slow.inputs, slow.outputs, 0), 64)
    assert not found.is_fast
    # Twice the rows took twice the time, twice in a row: 8 rows and more tell nothing new.
    assert [curve.rows for curve in found.costs.curves] == [(1, 2, 4)]
    assert max(slow.sizes.count(size) for size in (2, 4)) <= 2
    assert slow.now <= SLOW_SECONDS
    assert found.costs.best(64) == 1


def test_a_fast_model_takes_20_milliseconds_of_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Slow(session(linear()))
    clock = iter(range(10**9))
    # Every look at the clock is 10 µs later: a call takes so long.
    monkeypatch.setattr("mlctl.serving.batching.measuring.perf_counter", lambda: next(clock) * 1e-5)
    assert measure(fast, layout_of(fast.inputs, fast.outputs, 0), 64).is_fast
    # The calls that find the sizes out come on top.
    assert 0.8 * FAST_SECONDS <= len(fast.sizes) * 1e-5 <= 1.1 * FAST_SECONDS


class Disturbed(Slow):
    """A fast session by a clock of its own, whose calls take `first + each * rows`, one of them 5 ms more."""

    def __init__(self, graph: OnnxSession, first: float, each: float, disturbed: int) -> None:
        super().__init__(graph)
        self.first, self.each, self.disturbed = first, each, disturbed

    def all(self, inputs: Arrays) -> Arrays:
        self.sizes.append(len(inputs[0]))
        self.now += self.first + self.each * len(inputs[0]) + 0.005 * (len(self.sizes) == self.disturbed)
        return self.graph.all(inputs)


@pytest.mark.parametrize(("first", "each", "best"), [(1e-4, 2e-5, 64), (0.0, 3e-4, 16)])
@pytest.mark.parametrize("disturbed", range(25))
def test_one_disturbance_changes_no_choice(
    monkeypatch: pytest.MonkeyPatch, first: float, each: float, best: int, disturbed: int
) -> None:
    session_ = Disturbed(session(linear()), first, each, disturbed)
    monkeypatch.setattr("mlctl.serving.batching.measuring.perf_counter", lambda: session_.now)
    found = measure(session_, layout_of(session_.inputs, session_.outputs, 0), 64)
    assert found.is_fast
    assert found.costs.best(64) == best


def test_a_fast_model_is_not_called_with_batches_that_do_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    steady = Disturbed(session(linear()), 0.0, 3e-4, 0)
    monkeypatch.setattr("mlctl.serving.batching.measuring.perf_counter", lambda: steady.now)
    found = measure(steady, layout_of(steady.inputs, steady.outputs, 0), 64)
    # 200 µs that a batch costs beside the model make 16 rows pay; 32 could give 2 % more rows per second.
    assert [curve.rows for curve in found.costs.curves] == [(1, 2, 4, 8, 16)]
    assert steady.now < FAST_SECONDS


@pytest.mark.parametrize("limit", [2, 3, 8])
def test_sizes_that_the_model_refuses_are_not_formed(limit: int) -> None:
    graph = session(at_most(limit))
    with pytest.raises(StepFailed):
        graph.all((np.zeros((limit + 1, 4), np.float32),))
    found = measured(graph)
    assert max(found.costs.best(rows) for rows in range(1, 40)) <= limit
    assert found.costs.can_join


@pytest.mark.parametrize("graph", [mixing, dynamically_quantized])
def test_a_model_that_mixes_its_rows_is_given_them_one_by_one(graph: object) -> None:
    assert callable(graph)
    found = measured(session(graph()))
    assert not found.costs.can_join
    assert found.costs.best(16) == 1


def test_a_fixed_batch_is_not_joined_and_yet_timed() -> None:
    found = measured(session(linear(batch=4)))
    assert not found.costs.can_join
    assert found.costs.curves[0].rows == (4,)
    assert found.known_good is not None
    assert found.known_good[0].shape == (4, 16)


@pytest.mark.parametrize(("vocabulary", "longest"), [(200, None), (4, None), (1, None), (200, 40), (200, 8)])
def test_lengths_and_words_that_the_model_refuses_are_left_out(vocabulary: int, longest: int | None) -> None:
    found = measured(session(looked_up(vocabulary, longest)))
    lengths = [curve.length for curve in found.costs.curves]
    assert lengths == [each for each in (8, 32, 128, 512) if longest is None or each <= longest]
    # Answers of every token are cut back to the row's own ones. With one length there is nothing to fill up.
    assert found.costs.can_pad == (longest != 8)


def test_padding_is_believed_only_where_answers_stay_the_same() -> None:
    right, wrong = measured(session(masked_mean())), measured(session(mean_of_words()))
    assert (right.costs.can_join, right.costs.can_pad) == (True, True)
    assert (wrong.costs.can_join, wrong.costs.can_pad) == (True, False)


def test_rows_that_are_given_are_those_that_are_measured() -> None:
    graph = session(linear())
    rows = np.arange(48, dtype=np.float32).reshape(3, 16)
    found = measured(graph, given=((rows,),))
    assert found.made is not None
    assert np.array_equal(found.made.rows(1, 4)[0], rows[[1, 2, 0, 1]])
