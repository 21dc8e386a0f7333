"""From what was seen of a tensor's values to the range that its integers cover."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.compression.quantization.histograms import BINS, Histogram

Method: TypeAlias = Literal["minmax", "percentile", "entropy", "mse"]
Floats: TypeAlias = npt.NDArray[np.float64]

LEVELS: Final = 256
CANDIDATES: Final = 192
"""Thresholds that entropy and mse try: half a per cent of the range apart, finer than a level matters."""


@dataclass(frozen=True)
class Range:
    """The values that integers stand for: from `low`, 0 or less, to `high`, 0 or more."""

    low: float
    high: float


@dataclass(frozen=True)
class RangeRule:
    """How a histogram becomes a range: the method, the share that `percentile` keeps in per cent, and whether the
    range shall be centred on zero."""

    method: Method
    percentile: float = 99.99
    is_symmetric: bool = False

    @property
    def needs_counts(self) -> bool:
        """Whether more than the extremes are asked for."""
        return self.method != "minmax"

    def range_of(self, histogram: Histogram) -> Range:
        """The range of `histogram`, within its extremes and 0."""
        low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
        if self.needs_counts and histogram.total and low < high:
            found = _METHODS[self.method](histogram, self)
            low, high = max(low, min(found.low, 0.0)), min(high, max(found.high, 0.0))
        if self.is_symmetric:
            high = max(-low, high)
            low = -high
        return Range(low, high)


def _of_percentile(histogram: Histogram, rule: RangeRule) -> Range:
    """The values between which `percentile` per cent lie, with as many below as above; within a bin values are taken
    to be spread evenly."""
    share = rule.percentile / 100
    if rule.is_symmetric:
        _, counts = _magnitudes(histogram)
        threshold = _quantile(counts, share) * histogram.width
        return Range(-threshold, threshold)
    cut = (1 - share) / 2
    low, high = (_quantile(histogram.counts, each) - BINS for each in (cut, 1 - cut))
    return Range(low * histogram.width, high * histogram.width)


def _quantile(counts: npt.NDArray[np.int64], share: float) -> float:
    """Where `share` of the counts lies to the left, in bins."""
    reached = np.concatenate(([0], np.cumsum(counts)))
    wanted = share * reached[-1]
    left = int(np.searchsorted(reached, wanted, side="left"))
    if left == 0:
        return 0.0
    inside = (wanted - reached[left - 1]) / (reached[left] - reached[left - 1])
    return left - 1 + float(inside)


def _of_entropy(histogram: Histogram, rule: RangeRule) -> Range:
    """The range whose integers say most about the values: least Kullback-Leibler divergence of the distribution of
    values from what is left of it after clipping and rounding (Migacz, 8-bit Inference with TensorRT, GTC 2017).

    Zeros are exact at every scale, and would outweigh all the rest after a ReLU: their bin counts as its neighbour.
    Where values stand in spikes, as after a constant background, the divergence asks for levels as fine as the spikes
    whatever is clipped for it; so ranges whose squared error is above that of no clipping at all are left out.
    """
    is_one_sided, counts = _magnitudes(histogram)
    levels = LEVELS if is_one_sided and not rule.is_symmetric else LEVELS // 2
    bins = _bins_within(histogram)
    weights: Floats = counts[:bins].astype(np.float64)
    if bins <= levels or not weights.any():
        return Range(histogram.low, histogram.high)
    weights[0] = min(weights[0], weights[1])
    values, occurrences = _occupied(histogram)
    whole = Range(histogram.low, histogram.high)
    most = _squared_error(values, occurrences, whole, rule)
    best, least = whole, _divergence(weights, bins, levels)
    # From wide to narrow: of equal divergences the widest range clips least.
    for kept in np.unique(np.linspace(levels, bins, CANDIDATES).astype(int))[-2::-1]:
        threshold = float(kept) * histogram.width
        found = Range(max(-threshold, histogram.low), min(threshold, histogram.high))
        divergence = _divergence(weights, int(kept), levels)
        if divergence < least and _squared_error(values, occurrences, found, rule) <= most:
            best, least = found, divergence
    return best


def _divergence(counts: Floats, kept: int, levels: int) -> float:
    """KL(p || q) in nats: p the first `kept` bins with all outliers in the last one, q the same bins after rounding
    to `levels`, spread evenly over those that were not empty."""
    inside = counts[:kept]
    reference = inside.copy()
    reference[-1] += counts[kept:].sum()
    group = np.arange(kept) * levels // kept
    occupied = inside > 0
    sums = np.bincount(group, weights=inside, minlength=levels)
    sizes = np.bincount(group, weights=occupied, minlength=levels)
    spread = np.where(occupied, (sums / np.maximum(sizes, 1))[group], 0.0)
    total = spread.sum()
    if not total:
        return float("inf")
    p, q = reference / reference.sum(), spread / total
    matters = p > 0
    # Where clipping put outliers into an empty bin, q has nothing to offer; a little keeps the sum finite.
    least = 1e-9
    return float((p[matters] * np.log(p[matters] / np.maximum(q[matters], least))).sum())


def _of_least_error(histogram: Histogram, rule: RangeRule) -> Range:
    """The range with the least mean squared error of clipping and rounding, one end after the other."""
    values, weights = _occupied(histogram)
    best = Range(min(histogram.low, 0.0), max(histogram.high, 0.0))
    shares = [float(share) for share in np.linspace(1.0, 0.1, CANDIDATES)]

    def least(ranges: list[Range]) -> Range:
        return min(ranges, key=lambda each: _squared_error(values, weights, each, rule))

    best = least([Range(best.low * share, best.high * share) for share in shares])
    if not rule.is_symmetric:
        best = least([Range(best.low, best.high * share) for share in shares])
        best = least([Range(best.low * share, best.high) for share in shares])
    return best


def _occupied(histogram: Histogram) -> tuple[Floats, Floats]:
    """The middles of the bins that are not empty, and how many values each holds, float64 [bins]."""
    centres = (np.arange(-BINS, BINS) + 0.5) * histogram.width
    occupied = histogram.counts > 0
    return centres[occupied].astype(np.float64), histogram.counts[occupied].astype(np.float64)


def _squared_error(values: Floats, weights: Floats, limits: Range, rule: RangeRule) -> float:
    low, high = min(limits.low, 0.0), max(limits.high, 0.0)
    if rule.is_symmetric:
        low, high = -max(-low, high), max(-low, high)
    step = (high - low) / (LEVELS - 1)
    if step <= 0:
        return float((weights * values**2).sum())
    zero = np.rint(-low / step)
    rounded = (np.clip(np.rint(values / step) + zero, 0, LEVELS - 1) - zero) * step
    return float((weights * (rounded - values) ** 2).sum())


def _magnitudes(histogram: Histogram) -> tuple[bool, npt.NDArray[np.int64]]:
    """Whether all values are on one side of zero, and the counts of their magnitudes, [BINS]."""
    below, above = histogram.counts[:BINS][::-1], histogram.counts[BINS:]
    return histogram.low >= 0 or histogram.high <= 0, below + above


def _bins_within(histogram: Histogram) -> int:
    """Bins from zero to the largest magnitude."""
    return min(BINS, int(np.ceil(max(-histogram.low, histogram.high) / histogram.width)))


_METHODS: Final[dict[str, Callable[[Histogram, RangeRule], Range]]] = {
    "percentile": _of_percentile,
    "entropy": _of_entropy,
    "mse": _of_least_error,
}
