"""How far a figure could lie from what was measured."""

from collections.abc import Callable
from dataclasses import dataclass
from math import floor, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from mlctl.metrics.classification import is_rate, right_answers
from mlctl.metrics.resampling import Floats, replicates

_ROUNDING = 1e-12
"""A difference of figures near 1 that float64 arithmetic leaves where there is none: 4e-16, times a few operations."""


@dataclass(frozen=True)
class Interval:
    """A two-sided interval in the figure's own unit.

    `confidence` is the share of repeated measurements whose interval would hold the true figure.
    """

    low: float
    high: float
    confidence: float

    @property
    def excludes_zero(self) -> bool:
        """True when every number in the interval has one sign; an end that is 0 includes it."""
        return self.low > 0 or self.high < 0


def normal_quantile(confidence: float) -> float:
    """How many deviations a two-sided normal interval of this confidence reaches to each side: 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson_interval(right: int, samples: int, confidence: float) -> Interval:
    """The score interval of a rate of `right` out of `samples` (1 or more), from Wilson (1927), within [0, 1]."""
    z = normal_quantile(confidence)
    rate = right / samples
    center = (rate + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z / (1 + z * z / samples) * sqrt(rate * (1 - rate) / samples + (z / (2 * samples)) ** 2)
    # At 0 and at all, center and half are equal by algebra, and differ by a rounding in floating point.
    low = 0.0 if right == 0 else center - half
    high = 1.0 if right == samples else center + half
    return Interval(low, high, confidence)


def percentile_interval(values: Floats, confidence: float) -> Interval:
    """The middle `confidence` of bootstrap replicates float64 [R] (Efron and Tibshirani 1993, chapter 13)."""
    outside = (1 - confidence) / 2
    low, high = np.quantile(values, [outside, 1 - outside])
    return Interval(float(low), float(high), confidence)


def replicate_interval(replicate: Callable[[], Floats], confidence: float) -> tuple[Interval, float] | None:
    """The percentile interval and the mean of bootstrap replicates float64 [R]; None where one is not finite.

    `replicate` makes them; a division by zero in it is one of those.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = replicate()
    if not np.isfinite(values).all():
        return None
    return percentile_interval(values, confidence), float(values.mean())


def figure_interval(
    name: str, answers: npt.NDArray[Any], targets: npt.NDArray[Any], *, confidence: float, seed: int
) -> Interval:
    """The interval of a figure of one model: Wilson's for rates of right answers, else the percentile bootstrap.

    `answers` float [N, C] or [N] and `targets` [N] as `resampled` takes them; N is 1 or more.
    """
    if is_rate(name):
        right = right_answers(name, answers, targets)
        return wilson_interval(int(right.sum()), len(right), confidence)
    return percentile_interval(replicates(name, answers, targets, seed=seed), confidence)


def samples_to_decide(interval: Interval, estimate: float, samples: int) -> int | None:
    """How many more samples would make an interval around the same estimate exclude zero.

    The side that faces zero is taken to shrink with the square root of the number of samples. 0 when the interval
    excludes zero already, None when the estimate is zero up to rounding: no number of samples would decide.
    """
    if interval.excludes_zero:
        return 0
    reach = estimate - interval.low if estimate > 0 else interval.high - estimate
    if abs(estimate) <= _ROUNDING * reach:
        return None
    return max(1, floor(samples * (reach / estimate) ** 2) + 1 - samples)
