"""What is counted does not depend on how the values arrive, and equals what exact arithmetic counts."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from math import floor

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlctl.compression.quantization.histograms import BINS, LEAST_EXPONENT, Histogram, RunningHistogram
from mlctl.errors import StepFailed

Floats = npt.NDArray[np.float32]

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
NEAR = st.floats(-100, 100, width=32)
VALUES = arrays(np.float32, st.integers(1, 60), elements=st.one_of(FINITE, NEAR, st.just(-0.0)))


def counted(*batches: npt.NDArray[np.generic]) -> Histogram:
    """The histogram of the batches, one after the other."""
    running = RunningHistogram("t")
    for batch in batches:
        running.add(batch)
    return running.histogram()


def assert_same(one: Histogram, other: Histogram) -> None:
    assert (one.low, one.high, one.exponent) == (other.low, other.high, other.exponent)
    np.testing.assert_array_equal(one.counts, other.counts)


def counts_by_fractions(values: Floats, exponent: int) -> list[int]:
    """Every value binned by itself, in rational numbers."""
    counts = [0] * (2 * BINS)
    for value in values.tolist():
        counts[BINS + floor(Fraction(value) * BINS / Fraction(2) ** exponent)] += 1
    return counts


@settings(max_examples=50)
@given(VALUES)
@example(np.array([-1e-45, 3e38], np.float32))
@example(np.array([-1e-45, 5000], np.float32))
@example(np.array([-(2.0**120), 2.0**-20], np.float32))
def test_counts_are_those_of_exact_arithmetic(values: Floats) -> None:
    found = counted(values)
    assert (found.low, found.high) == (values.min(), values.max())
    assert found.counts.tolist() == counts_by_fractions(values, found.exponent)
    assert found.total == len(values)


@settings(max_examples=50)
@given(VALUES)
def test_the_range_is_the_least_power_of_two_that_holds_all_values(values: Floats) -> None:
    found = counted(values)
    largest = Fraction(float(np.abs(values).max()))
    assert largest < Fraction(2) ** found.exponent
    assert found.exponent == LEAST_EXPONENT or largest >= Fraction(2) ** (found.exponent - 1)


@settings(max_examples=50)
@given(VALUES, st.data())
def test_any_batches_in_any_order_give_the_same_histogram(values: Floats, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(values))))
    cuts = data.draw(st.lists(st.integers(0, len(values)), max_size=6))
    batches = np.split(values[np.array(order)], sorted(cuts))
    assert_same(counted(*batches), counted(values))


def test_several_threads_give_the_same_histogram() -> None:
    dice = np.random.default_rng(1)
    # The scale grows on the way, so that ranges are widened while others are counting.
    batches = [dice.normal(0, 2.0**power, (50, 40)).astype(np.float32) for power in range(-6, 14) for _ in range(6)]
    running = RunningHistogram("t")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(running.add, batches))
    assert_same(running.histogram(), counted(np.concatenate(batches)))


def test_an_array_of_many_chunks_is_counted_whole() -> None:
    dice = np.random.default_rng(2)
    values = dice.normal(0, 3, 3 * (1 << 16) + 17).astype(np.float32)
    for each in (values, np.abs(values)):
        found = counted(each)
        scaled = np.floor(each.astype(np.float64) / found.width).astype(int) + BINS  # a power of two: exact
        np.testing.assert_array_equal(found.counts, np.bincount(scaled, minlength=2 * BINS))


@settings(max_examples=50)
@given(VALUES, VALUES)
def test_a_restored_histogram_goes_on_where_the_other_stood(before: Floats, after: Floats) -> None:
    resumed = RunningHistogram("t")
    resumed.restore(counted(before))
    resumed.add(after)
    assert_same(resumed.histogram(), counted(before, after))


def test_what_was_handed_out_does_not_grow() -> None:
    running = RunningHistogram("t")
    running.add(np.ones(3, np.float32))
    first = running.histogram()
    other = RunningHistogram("u")
    other.restore(first)
    running.add(np.ones(4, np.float32))
    other.add(np.ones(5, np.float32))
    assert (first.total, running.histogram().total, other.histogram().total) == (3, 7, 8)


@settings(max_examples=50)
@given(VALUES)
def test_without_counts_the_extremes_are_the_same(values: Floats) -> None:
    running = RunningHistogram("t")
    running.add_extremes(float(values.min()), float(values.max()), float(values.astype(np.float64).sum()))
    found, whole = running.histogram(), counted(values)
    assert (found.low, found.high, found.total) == (whole.low, whole.high, 0)


def test_nothing_is_an_empty_histogram() -> None:
    found = counted(np.zeros((0, 3), np.float32))
    assert (found.low, found.high, found.total) == (np.inf, -np.inf, 0)


@pytest.mark.parametrize(
    "extremes", [(np.nan, 1.0, 0.0), (-1.0, np.inf, np.inf), (-np.inf, 1.0, 0.0), (0.0, 1.0, np.nan)]
)
def test_extremes_and_sums_that_are_no_numbers_are_refused(extremes: tuple[float, float, float]) -> None:
    with pytest.raises(StepFailed, match="/body/relu_output"):
        RunningHistogram("/body/relu_output").add_extremes(*extremes)


def test_a_sum_that_overflows_says_nothing_of_its_values() -> None:
    running = RunningHistogram("t")
    running.add_extremes(0.0, 3e38, np.inf)
    assert (running.histogram().low, running.histogram().high) == (0.0, 3e38)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_the_tensors_name(bad: float) -> None:
    values = np.linspace(-1, 1, 100, dtype=np.float32)
    values[57] = bad
    running = RunningHistogram("/body/relu_output")
    with pytest.raises(StepFailed, match="/body/relu_output") as caught:
        running.add(values)
    assert caught.value.exit_code == 4
    assert running.histogram().total == 0


def test_halves_are_counted_as_the_numbers_that_they_are() -> None:
    values = np.array([-2.5, 0.125, 1024], np.float16)
    assert_same(counted(values), counted(values.astype(np.float32)))
