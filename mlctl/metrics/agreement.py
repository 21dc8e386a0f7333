"""How alike two models answer the same samples.

Shapes: N samples, C classes. Probabilities are finite floats [N, C], predictions finite floats [N], targets int64 [N].
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.metrics.intervals import Interval, percentile_interval, wilson_interval
from mlctl.metrics.paired import rate_difference_interval
from mlctl.metrics.resampling import bootstrapped

Answers: TypeAlias = npt.NDArray[np.floating[Any]]
Booleans: TypeAlias = npt.NDArray[np.bool_]
Integers: TypeAlias = npt.NDArray[np.int64]

_SEED = 0


def share_alike(first: Answers, second: Answers, confidence: float) -> tuple[float, Interval]:
    """The share of samples to which both answer the same class, and Wilson's interval of it; probabilities each."""
    alike = int((first.argmax(axis=1) == second.argmax(axis=1)).sum())
    return alike / len(first), wilson_interval(alike, len(first), confidence)


def root_mean_square_apart(first: Answers, second: Answers, confidence: float) -> tuple[float, Interval]:
    """How far apart predictions lie, in their own unit, and the bootstrap's interval of it."""
    squares = np.square(np.subtract(first, second, dtype=np.float64))
    draws = bootstrapped(lambda indices: np.sqrt(squares[indices].mean(axis=1)), len(squares), seed=_SEED)
    return float(np.sqrt(squares.mean())), percentile_interval(draws, confidence)


@dataclass(frozen=True)
class ClassChange:
    """How the share of right answers to the samples of one class changed from a first model to a second."""

    number: int
    samples: int
    first: float
    second: float
    change: Interval
    """Of the second's share minus the first's."""


def class_changes(
    first_right: Booleans, second_right: Booleans, targets: Integers, confidence: float
) -> tuple[ClassChange, ...]:
    """The change of every class that has samples, the greatest loss first, equal ones by number; [N] each."""
    found = []
    for number in np.unique(targets):
        rows = targets == number
        first, second = first_right[rows], second_right[rows]
        found.append(
            ClassChange(
                int(number),
                len(first),
                float(first.mean()),
                float(second.mean()),
                rate_difference_interval(second, first, confidence),
            )
        )
    return tuple(sorted(found, key=lambda each: (each.second - each.first, each.number)))
