"""Figures of predicted numbers.

Shapes: N samples, R resamples. Predictions and targets are finite floats [N] in the target's own unit.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.errors import DataError

Numbers: TypeAlias = npt.NDArray[np.floating[Any]]
Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Resampler: TypeAlias = Callable[[Integers], Floats]

_FIGURES = {
    "mse": "mean_squared_error",
    "rmse": "root_mean_squared_error",
    "mae": "mean_absolute_error",
    "r2": "r2_score",
}
"""Scikit-learn's names, which is imported once a figure is asked for: it takes a second to load."""
REGRESSION_FIGURES = tuple(_FIGURES)


def regression_figure(name: str, predictions: Numbers, targets: Numbers) -> float:
    """The figure `name`, computed in float64: mse, rmse, mae or r2.

    r2 of targets that are all equal is 1 for perfect predictions and 0 otherwise, as scikit-learn has it.
    Raises DataError for r2 of fewer than 2 samples, ValueError for another name.
    """
    _check(name, len(targets))
    from sklearn import metrics

    figure = getattr(metrics, _FIGURES[name])
    # No figure changes when both are shifted alike, and equal targets become exact zeros: scikit-learn 1.9 gives
    # an r2 of -5e33 for three targets of 0.1, whose mean is off by a rounding.
    shift = np.float64(targets[0])
    return float(figure(np.asarray(targets, np.float64) - shift, np.asarray(predictions, np.float64) - shift))


def regression_resampler(name: str, predictions: Numbers, targets: Numbers) -> Resampler:
    """A function that gives `regression_figure` of resamples: int64 [R, N] numbers of samples to float64 [R].

    Raises what `regression_figure` raises.
    """
    _check(name, len(targets))
    truth = np.asarray(targets, np.float64)
    errors = truth - np.asarray(predictions, np.float64)
    if name == "mae":
        return _means(np.abs(errors))
    mean_square = _means(np.square(errors))
    if name == "mse":
        return mean_square
    if name == "rmse":
        return lambda indices: np.asarray(np.sqrt(mean_square(indices)))
    return lambda indices: _explained(mean_square(indices), truth[indices])


def _check(name: str, samples: int) -> None:
    if name not in _FIGURES:
        raise ValueError(f"{name!r} is not one of {', '.join(_FIGURES)}")
    if name == "r2" and samples < 2:
        raise DataError("r2 needs 2 samples or more", next="measure on a larger split, or leave r2 out of `metrics`")


def _means(values: Floats) -> Resampler:
    return lambda indices: np.asarray(values[indices].mean(axis=1))


def _explained(squares: Floats, drawn: Floats) -> Floats:
    spread = np.square(drawn - drawn.mean(axis=1, keepdims=True)).mean(axis=1)
    # The mean of equal numbers can be off by a rounding, which would leave a spread of 1e-32 to divide by.
    spread[drawn.min(axis=1) == drawn.max(axis=1)] = 0
    perfect = np.where(squares == 0, 1.0, 0.0)
    return np.asarray(np.where(spread == 0, perfect, 1 - squares / np.where(spread == 0, 1, spread)))
