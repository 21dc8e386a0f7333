"""Ranges against ONNX Runtime's own calibrators, NumPy's percentiles, brute force and the true values."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from float_graphs import made
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator

from mlctl.compression.quantization.histograms import Histogram, RunningHistogram
from mlctl.compression.quantization.thresholds import LEVELS, Method, Range, RangeRule

Floats = npt.NDArray[np.float32]

VALUES = arrays(np.float32, st.integers(1, 80), elements=st.floats(-1e4, 1e4, width=32))
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy", "mse")


def counted(values: Floats) -> Histogram:
    """The histogram of the values."""
    running = RunningHistogram("t")
    running.add(values)
    return running.histogram()


def distribution(name: str, size: int = 20_011) -> Floats:
    """Values as activations have them."""
    dice = np.random.default_rng(7)
    makers: dict[str, Callable[[], npt.NDArray[np.float64]]] = {
        "normal": lambda: dice.normal(0.3, 2, size),
        "relu": lambda: np.maximum(dice.normal(0, 1, size), 0),
        "laplace": lambda: dice.laplace(0, 0.5, size),
        "uniform": lambda: dice.uniform(-1, 3, size),
        "negative": lambda: -dice.exponential(2, size),
        "away from zero": lambda: dice.uniform(5, 6, size),
        "outlier": lambda: np.append(dice.normal(0, 1, 50 * size), 30),
    }
    return np.asarray(makers[name](), np.float32)


ORDINARY = ("normal", "relu", "laplace", "uniform", "negative")


class OneBatch(CalibrationDataReader):  # type: ignore[misc]
    """Values as one row of the input x."""

    def __init__(self, values: Floats) -> None:
        self._batches: Iterator[dict[str, Floats]] = iter([{"x": values.reshape(1, -1)}])

    def get_next(self) -> dict[str, Floats] | None:
        return next(self._batches, None)


def by_onnxruntime(values: Floats, folder: Path, method: CalibrationMethod, **options: Any) -> Range:
    """What ONNX Runtime's own calibrator makes of the values."""
    node = onnx.helper.make_node("Abs", ["x"], ["y"], "abs")
    path = folder / "float.onnx"
    onnx.save(made([node], {"x": (onnx.TensorProto.FLOAT, [1, "size"])}, {}), path)
    calibrator = create_calibrator(path, None, str(folder / "cut.onnx"), method, extra_options=options)
    calibrator.collect_data(OneBatch(values))
    low, high = (np.asarray(each).item() for each in calibrator.compute_data()["x"].range_value)
    return Range(low, high)


@given(VALUES)
@settings(max_examples=60)
@example(np.zeros(3, np.float32))
@example(np.array([5, 6, 7], np.float32))
@example(np.array([-5, -6, -7], np.float32))
@pytest.mark.parametrize("is_symmetric", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_range_holds_zero_and_stays_within_the_extremes(method: Method, is_symmetric: bool, values: Floats) -> None:
    found = RangeRule(method, 90, is_symmetric).range_of(counted(values))
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if is_symmetric:
        assert found.low == -found.high
        assert 0 <= found.high <= max(-low, high)
    else:
        assert low <= found.low <= 0 <= found.high <= high
    if method == "minmax" and not is_symmetric:
        assert found == Range(low, high)


@pytest.mark.parametrize("is_symmetric", [False, True])
@pytest.mark.parametrize("name", [*ORDINARY, "outlier"])
def test_extremes_are_those_of_onnxruntime(name: str, is_symmetric: bool, tmp_path: Path) -> None:
    values = distribution(name)
    found = RangeRule("minmax", is_symmetric=is_symmetric).range_of(counted(values))
    theirs = by_onnxruntime(values, tmp_path, CalibrationMethod.MinMax, symmetric=is_symmetric)
    # Theirs need not hold zero: the quantizer widens them afterwards.
    assert found == Range(min(theirs.low, 0.0), max(theirs.high, 0.0))


@pytest.mark.parametrize("is_symmetric", [False, True])
@pytest.mark.parametrize("percentile", [99.0, 99.9])
@pytest.mark.parametrize("name", ORDINARY)
def test_a_percentile_is_that_of_onnxruntime_within_a_bin(
    name: str, percentile: float, is_symmetric: bool, tmp_path: Path
) -> None:
    values = distribution(name)
    histogram, bins = counted(values), 4096
    theirs = by_onnxruntime(
        values, tmp_path, CalibrationMethod.Percentile, percentile=percentile, symmetric=is_symmetric, num_bins=bins
    )
    found = RangeRule("percentile", percentile, is_symmetric).range_of(histogram)
    # Both name a place in the bin that the wanted value lies in: theirs the bin's left edge, ours one within. Of a
    # centred range they cut off the side that has no values.
    width = histogram.width + 2 * float(np.abs(values).max()) / bins
    assert abs(min(found.high, max(values.max(), 0)) - max(theirs.high, 0)) <= width
    assert abs(max(found.low, min(values.min(), 0)) - min(theirs.low, 0)) <= width


@given(VALUES, st.sampled_from([62.5, 75.0, 87.5, 100.0]))
def test_a_percentile_is_that_of_numpy_within_a_bin(values: Floats, percentile: float) -> None:
    """Shares that binary fractions can say, so that both round alike; numpy's inverted CDF is one of the values."""
    histogram = counted(values)
    found = RangeRule("percentile", percentile).range_of(histogram)
    cut = (100 - percentile) / 2
    low, high = np.percentile(values, [cut, 100 - cut], method="inverted_cdf").astype(np.float64)
    assert abs(found.low - min(low, 0.0)) <= histogram.width
    assert abs(found.high - max(high, 0.0)) <= histogram.width
    centred = RangeRule("percentile", percentile, is_symmetric=True).range_of(histogram)
    expected = np.percentile(np.abs(values), percentile, method="inverted_cdf")
    assert abs(centred.high - expected) <= histogram.width


def rms_error(values: Floats, found: Range) -> float:
    """Root of the mean squared error of the true values as unsigned bytes over the range."""
    step = (found.high - found.low) / (LEVELS - 1)
    zero = round(-found.low / step)
    integers = np.clip(np.round(values.astype(np.float64) / step) + zero, 0, LEVELS - 1)
    return float(np.sqrt(np.mean(((integers - zero) * step - values) ** 2)))


def brute_force(values: Floats, *, is_symmetric: bool) -> float:
    """The least error over a grid of ranges, both ends by themselves, judged by the true values."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if is_symmetric:
        low, high = -max(-low, high), max(-low, high)
    shares = np.linspace(0.02, 1, 50)
    pairs = zip(shares, shares, strict=True) if is_symmetric else product(shares, shares)
    return min(rms_error(values, Range(low * one, high * other)) for one, other in pairs)


@pytest.mark.parametrize("is_symmetric", [False, True])
@pytest.mark.parametrize("name", [*ORDINARY, "away from zero"])
def test_the_least_squares_range_is_as_good_as_brute_force(name: str, is_symmetric: bool) -> None:
    values = distribution(name, 2_000)
    values[:3] *= 4  # some outliers, so that clipping pays
    histogram = counted(values)
    found = RangeRule("mse", is_symmetric=is_symmetric).range_of(histogram)
    # A value's error is its distance to the nearest level, and changes by no more than the value does: of either
    # range the error over the bins' centres is off by half a bin at most. Beyond that, ends that lie 0.5 % apart.
    allowed = brute_force(values, is_symmetric=is_symmetric) * 1.005 + histogram.width
    assert rms_error(values, found) <= allowed


@pytest.mark.parametrize("method", ["entropy", "mse"])
def test_a_lone_outlier_is_clipped_and_the_rest_gains(method: Method) -> None:
    values = distribution("outlier")
    histogram = counted(values)
    found, widest = (RangeRule(each).range_of(histogram) for each in (method, "minmax"))
    assert widest.high == 30
    assert found.high < 0.5 * widest.high
    assert rms_error(values, found) < 0.8 * rms_error(values, widest)


@pytest.mark.parametrize("is_symmetric", [False, True])
@pytest.mark.parametrize("name", [*ORDINARY, "outlier", "away from zero"])
def test_entropy_keeps_at_least_a_bin_for_every_level(name: str, is_symmetric: bool) -> None:
    values = distribution(name)
    histogram = counted(values)
    rule = RangeRule("entropy", is_symmetric=is_symmetric)
    found = rule.range_of(histogram)
    is_one_sided = values.min() >= 0 or values.max() <= 0
    levels = LEVELS if is_one_sided and not is_symmetric else LEVELS // 2
    largest = float(np.abs(values).max())
    assert min(largest, levels * histogram.width) <= max(-found.low, found.high) <= largest


def test_a_distribution_without_a_tail_is_not_clipped() -> None:
    values = distribution("uniform")
    found = RangeRule("entropy").range_of(counted(values))
    assert found.high > 0.95 * values.max()
    assert found.low == values.min()


@pytest.mark.parametrize("method", METHODS)
def test_few_values_are_not_clipped_away(method: Method) -> None:
    """A tensor of a single value, and one that is zero but for one row, as calibration on few rows sees them."""
    alone = RangeRule(method, 100).range_of(counted(np.array([3], np.float32)))
    assert alone.low == 0
    assert alone.high == pytest.approx(3, rel=1e-3)
    rare = np.zeros(100, np.float32)
    rare[5] = 2
    assert RangeRule(method, 100).range_of(counted(rare)).high == pytest.approx(2, rel=1e-3)


def test_nothing_at_all_has_an_empty_range() -> None:
    empty = RunningHistogram("t").histogram()
    assert all(RangeRule(method).range_of(empty) == Range(0, 0) for method in METHODS)
