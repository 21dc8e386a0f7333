"""Two models' answers to the same samples.

In a cell count, `first` and `second` are the samples that only the first or only the second model gets right.
"""

from dataclasses import dataclass
from math import sqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, betaincinv

from mlctl.metrics.intervals import Interval, normal_quantile

Booleans: TypeAlias = npt.NDArray[np.bool_]

_BISECTIONS = 60
"""Halvings of an interval of length 2 until nothing is left of it in float64."""


@dataclass(frozen=True)
class McNemar:
    """How often only one of the models is right, and how likely so uneven a count is between equals."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first_right: Booleans, second_right: Booleans) -> McNemar:
    """The exact two-sided binomial test of McNemar (1947) from bool [N] each; p is 1 without a discordant pair."""
    first, second = _discordant(first_right, second_right)
    tail = float(bdtr(min(first, second), first + second, 0.5))
    return McNemar(first, second, min(1.0, 2 * tail))


def rate_difference_interval(first_right: Booleans, second_right: Booleans, confidence: float) -> Interval:
    """An interval of the first model's rate minus the second's, from bool [N] each, N at least 1.

    The hull of two intervals: Tango's (1998), whose width is honest when no pair is discordant, and the exact
    conditional one, which excludes zero just when `mcnemar` gives p < 1 - confidence. A hull that excludes zero
    has both behind it.
    """
    first, second = _discordant(first_right, second_right)
    score = tango_interval(first, second, len(first_right), confidence)
    exact = conditional_interval(first, second, len(first_right), confidence)
    return Interval(min(score.low, exact.low), max(score.high, exact.high), confidence)


def tango_interval(first: int, second: int, samples: int, confidence: float) -> Interval:
    """The score interval of a paired difference of rates: Tango (1998), Statistics in Medicine 17, 891-908."""
    z = normal_quantile(confidence)
    low = _lower_end(first, second, samples, z)
    high = -_lower_end(second, first, samples, z)
    return Interval(low, high, confidence)


def conditional_interval(first: int, second: int, samples: int, confidence: float) -> Interval:
    """Clopper and Pearson's (1934) interval of the first's share of discordant pairs, times the share of such pairs."""
    pairs = first + second
    outside = (1 - confidence) / 2
    low = float(betaincinv(first, second + 1, outside)) if first else 0.0
    high = float(betaincinv(first + 1, second, 1 - outside)) if second else 1.0
    return Interval((2 * low - 1) * pairs / samples, (2 * high - 1) * pairs / samples, confidence)


def constrained_second_rate(first: int, second: int, samples: int, difference: float) -> float:
    """The likeliest rate of only the second being right when the rates differ by `difference`: Tango's equation (3)."""
    linear = (2 * samples - first + second) * difference - first - second
    constant = -second * difference * (1 - difference)
    root = sqrt(max(0.0, linear * linear - 8 * samples * constant))
    return (root - linear) / (4 * samples)


def _lower_end(first: int, second: int, samples: int, z: float) -> float:
    low, high = -1.0, (first - second) / samples
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        second_rate = constrained_second_rate(first, second, samples, middle)
        variance = samples * max(0.0, 2 * second_rate + middle * (1 - middle))
        if first - second - samples * middle > z * sqrt(variance):
            low = middle
        else:
            high = middle
    return low


def _discordant(first_right: Booleans, second_right: Booleans) -> tuple[int, int]:
    first = int(np.count_nonzero(first_right & ~second_right))
    second = int(np.count_nonzero(second_right & ~first_right))
    return first, second
