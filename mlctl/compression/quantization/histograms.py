"""What is known of one tensor's values after any number of batches, in a fixed amount of memory."""

import threading
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.errors import StepFailed

Counts: TypeAlias = npt.NDArray[np.int64]

BINS = 2048
"""Bins on each side of zero: at least 1,024 of them, four for each of 256 levels, lie within the largest value."""

LEAST_EXPONENT = -64
"""Values below 2^-64 share the bins of a range that small; no scale of an activation comes near it."""

_CHUNK = 1 << 16
"""Values that are binned at once: what is in between stays in the processor's second cache."""


@dataclass(frozen=True)
class Histogram:
    """How often values fell into bins, and the smallest and largest of them: inf and -inf where there were none.

    `counts` int64 [2 * BINS] are bins of one width, 2^exponent / BINS, over [-2^exponent, 2^exponent).
    """

    low: float
    high: float
    exponent: int
    counts: Counts

    @property
    def width(self) -> float:
        """Width of a bin."""
        return float(2.0**self.exponent / BINS)

    @property
    def total(self) -> int:
        """How many values there were."""
        return int(self.counts.sum())


class RunningHistogram:
    """A histogram that grows with what it sees; the same values in any order and any batches give the same one.

    Its range is a power of two. When a value lies outside, pairs of bins are joined until it lies within, and since a
    bin's number is floor(value * BINS / 2^exponent), joining and binning anew come to the same counts exactly.
    Several threads may add at once.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._low, self._high = np.inf, -np.inf
        self._exponent = LEAST_EXPONENT
        self._counts = np.zeros(2 * BINS, np.int64)
        self._lock = threading.Lock()

    def add_extremes(self, low: float, high: float, total: float) -> None:
        """Take in the extremes and the sum of values that are not counted. Raises what `add` raises.

        Only a sum that is no number says that a value was none: large ones may add up to infinity.
        """
        self._require_finite(low, high, 0.0 if np.isinf(total) else total)
        with self._lock:
            self._low, self._high = min(self._low, low), max(self._high, high)

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count `values`, an array of any shape. Raises StepFailed where one is not a finite number."""
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        self._require_finite(low, high)
        largest = max(-low, high)
        needed = int(np.frexp(largest)[1]) if largest else LEAST_EXPONENT  # of zero it would be that of one
        exponent = max(LEAST_EXPONENT, needed, self._exponent)
        counts = _binned(flat, exponent, is_signed=low < 0)
        with self._lock:
            self._low, self._high = min(self._low, low), max(self._high, high)
            self._take(counts, exponent)

    def _require_finite(self, *numbers: float) -> None:
        if not np.isfinite(numbers).all():
            raise StepFailed(
                f"the tensor {self.name} holds values that are not finite numbers",
                next="look at the model: it overflows on rows of the train split",
            )

    def _take(self, counts: Counts, exponent: int) -> None:
        widest = max(exponent, self._exponent)
        self._counts = _joined(self._counts, widest - self._exponent) + _joined(counts, widest - exponent)
        self._exponent = widest

    def histogram(self) -> Histogram:
        """What was counted so far."""
        return Histogram(self._low, self._high, self._exponent, self._counts.copy())

    def restore(self, histogram: Histogram) -> None:
        """Go on from what was counted before."""
        self._low, self._high = histogram.low, histogram.high
        self._exponent, self._counts = histogram.exponent, histogram.counts.copy()


def _binned(values: npt.NDArray[np.float32], exponent: int, *, is_signed: bool) -> Counts:
    # The product with a power of two is exact, but where a tiny value is made smaller than float32 can say: a negative
    # one would count as zero, on the other side.
    exact = np.float32 if 2.0**exponent <= BINS else np.float64
    scale = exact(BINS / 2.0**exponent)
    counts = np.zeros(2 * BINS, np.int64)
    scaled = np.empty(min(_CHUNK, values.size), exact)
    numbers = np.empty(scaled.size, np.intp)
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK]
        places, found = scaled[: part.size], numbers[: part.size]
        np.multiply(part, scale, out=places)
        if is_signed:
            np.floor(places, out=places)
            np.add(places, BINS, out=places)
        np.copyto(found, places, casting="unsafe")
        if is_signed:
            counts += np.bincount(found, minlength=2 * BINS)
        else:
            counts[BINS:] += np.bincount(found, minlength=BINS)
    return counts


def _joined(counts: Counts, doublings: int) -> Counts:
    """The counts of a range `2^doublings` times as wide: bin j of either side goes to j >> doublings."""
    if not doublings:
        return counts
    places = np.arange(-BINS, BINS) >> min(doublings, 62)
    joined = np.zeros_like(counts)
    np.add.at(joined, places + BINS, counts)
    return joined
