"""Samples drawn again with replacement, and figures of every draw (Efron 1979)."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.metrics.classification import classification_resampler
from mlctl.metrics.nearness import NEARNESS_FIGURES, nearness_resampler
from mlctl.metrics.regression import REGRESSION_FIGURES, regression_resampler

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Resampler: TypeAlias = Callable[[Integers], Floats]
"""Numbers of samples int64 [R, N] in, a figure of every row out, float64 [R]."""

RESAMPLES = 2000
"""Draws behind every bootstrap interval; 50 of them lie outside each end of a 95 % interval."""

_CHUNK_NUMBERS = 1 << 19
"""Numbers of samples that are held at once (4 MiB): small enough for a processor's cache."""


def draws(samples: int, *, seed: int, count: int = RESAMPLES) -> Iterator[Integers]:
    """`count` draws of `samples` numbers out of 0..samples-1, in chunks int64 [r, samples], from PCG64.

    The same arguments give the same draws, so figures of two models on the same samples come out paired.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    rows = max(1, _CHUNK_NUMBERS // max(1, samples))
    for start in range(0, count, rows):
        yield generator.integers(0, samples, size=(min(rows, count - start), samples))


def resampled(name: str, answers: npt.NDArray[Any], targets: npt.NDArray[Any], indices: Integers) -> Floats:
    """The figure `name` of every row of `indices` (int64 [R, N], numbers of samples), float64 [R].

    `answers` are probabilities float [N, C] for a classifier's figures, predictions float [N] for a regression's, and
    of the shape of `targets` for those of nearness. Raises ValueError for a name that none of them has.
    """
    return resampler(name, answers, targets)(indices)


def replicates(name: str, answers: npt.NDArray[Any], targets: npt.NDArray[Any], *, seed: int) -> Floats:
    """The figure `name` of each of `RESAMPLES` draws of all samples: `bootstrapped`, with the arrays of `resampled`."""
    return bootstrapped(resampler(name, answers, targets), len(targets), seed=seed)


def bootstrapped(figures: Resampler, samples: int, *, seed: int) -> Floats:
    """What `figures` gives of each of `RESAMPLES` draws of all samples, float64 [RESAMPLES], in bounded memory.

    Two models' replicates with one seed are paired: their difference is the difference's own bootstrap.
    """
    return np.concatenate([figures(indices) for indices in draws(samples, seed=seed)])


def resampler(name: str, answers: npt.NDArray[Any], targets: npt.NDArray[Any]) -> Resampler:
    """What gives the figure `name` of resamples, for the arrays that `resampled` takes; raises what that raises."""
    if name in NEARNESS_FIGURES:
        return nearness_resampler(name, answers, targets)
    build = regression_resampler if name in REGRESSION_FIGURES else classification_resampler
    return build(name, answers, targets)


def percentile_replicates(values: Floats, percentile: float, *, seed: int) -> Floats:
    """The percentile (0 to 100) of each of `RESAMPLES` draws of all `values` float64 [N], float64 [RESAMPLES]."""
    chunks = [np.percentile(values[indices], percentile, axis=1) for indices in draws(len(values), seed=seed)]
    return np.asarray(np.concatenate(chunks), dtype=np.float64)
