"""How much faster one model answers than another, by the calls that both were timed in."""

from dataclasses import dataclass

import numpy as np

from mlctl.metrics.intervals import Interval, percentile_interval
from mlctl.metrics.resampling import Floats, percentile_replicates


@dataclass(frozen=True)
class Faster:
    """The smallest over the batch sizes of the other's median time over the model's own, and its interval.

    `column` is the number of that batch size. Below 1 the model is slower.
    """

    ratio: float
    column: int
    interval: Interval


def faster_than(other: Floats, model: Floats, *, confidence: float, seed: int) -> Faster:
    """How much faster `model` is than `other`, both seconds float64 [batches, rounds], timed in the same rounds."""
    ratios = np.median(other, axis=1) / np.median(model, axis=1)
    interval = percentile_interval(faster_replicates(other, model, seed=seed), confidence)
    return Faster(float(ratios.min()), int(ratios.argmin()), interval)


def faster_replicates(other: Floats, model: Floats, *, seed: int) -> Floats:
    """The ratio of `faster_than` in each of the bootstrap's draws of the rounds, float64 [RESAMPLES].

    Both are drawn in the same rounds: what slowed the machine in one of them slowed both.
    """
    by_batch = [
        percentile_replicates(of_other, 50, seed=seed) / percentile_replicates(of_model, 50, seed=seed)
        for of_other, of_model in zip(other, model, strict=True)
    ]
    return np.asarray(np.min(by_batch, axis=0), dtype=np.float64)
