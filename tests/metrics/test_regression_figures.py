"""Figures of predicted numbers, against scikit-learn on the same answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score, root_mean_squared_error

from mlctl.errors import DataError
from mlctl.metrics.regression import REGRESSION_FIGURES, Floats, regression_figure, regression_resampler

REFERENCES = {
    "mse": mean_squared_error,
    "rmse": root_mean_squared_error,
    "mae": mean_absolute_error,
    "r2": r2_score,
}
EIGHTHS = st.integers(-8000, 8000).map(lambda number: number / 8)


def test_figures_by_hand() -> None:
    predictions, targets = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0])
    figures = {name: regression_figure(name, predictions, targets) for name in REGRESSION_FIGURES}
    assert figures == pytest.approx({"mse": 5 / 3, "rmse": (5 / 3) ** 0.5, "mae": 1.0, "r2": 1 - 5 / 2})


def test_float32_answers_are_measured_in_float64() -> None:
    targets = np.full(10_000, 1e4, np.float32)
    predictions = targets + np.float32(2**-10)
    # 1e4 has a float32 spacing of 2^-10, so the error is exact; float32 squares and sums would lose digits of it.
    assert regression_figure("mse", predictions, targets) == 2.0**-20


def test_r2_of_equal_targets_is_one_or_zero() -> None:
    targets = np.full(3, 0.1)
    indices = np.array([[0, 1, 2]])
    assert regression_figure("r2", targets, targets) == 1.0
    assert regression_figure("r2", targets + 1, targets) == 0.0
    assert regression_resampler("r2", targets, targets)(indices).tolist() == [1.0]
    assert regression_resampler("r2", targets + 1, targets)(indices).tolist() == [0.0]


def test_r2_of_one_sample_is_refused_with_a_way_out() -> None:
    with pytest.raises(DataError, match="2 samples") as refusal:
        regression_figure("r2", np.ones(1), np.ones(1))
    assert "larger split" in refusal.value.next


def test_an_unknown_figure_is_refused() -> None:
    with pytest.raises(ValueError, match="'accuracy' is not one of mse"):
        regression_figure("accuracy", np.ones(2), np.ones(2))


@pytest.mark.parametrize("name", REGRESSION_FIGURES)
@settings(max_examples=50)
@given(pairs=arrays(np.float64, st.tuples(st.just(2), st.integers(2, 30)), elements=EIGHTHS), seed=st.integers(0, 99))
def test_resampled_figures_are_scikit_learns_on_the_resampled_answers(name: str, pairs: Floats, seed: int) -> None:
    predictions, targets = pairs
    indices = np.random.default_rng(seed).integers(0, len(targets), (4, len(targets)))
    found = regression_resampler(name, predictions, targets)(indices)
    wanted = [REFERENCES[name](targets[row], predictions[row]) for row in indices]
    # Eighths up to 1,000 sum exactly, so that only means and quotients round: a few units of 1e-16, times the
    # square of 1,000 beside 1/8 in r2's spread.
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)
