"""Figures of timed rounds, drawn again in blocks: a machine that is slow in one round is often slow in the next.

The circular block bootstrap of Politis and Romano (1992), with blocks of the cube root of the number of rounds, which
is the order that Hall, Horowitz and Jing (1995, Biometrika 82) find best for an interval's variance. Single rounds
drawn again (Efron 1979) would give intervals that are too narrow wherever a disturbance lasts for several rounds.
"""

from collections.abc import Callable, Iterator
from math import ceil
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.metrics.resampling import RESAMPLES, Floats, Integers

RoundFigure: TypeAlias = Callable[[Floats], Floats]
"""The figure of every draw float64 [R, N], float64 [R]."""

_CHUNK_NUMBERS = 1 << 19
"""Numbers of rounds that are held at once (4 MiB): small enough for a processor's cache."""


def block_draws(rounds: int, *, seed: int, count: int = RESAMPLES) -> Iterator[Integers]:
    """`count` draws of `rounds` numbers out of 0..rounds-1 in whole blocks, in chunks int64 [r, rounds], from PCG64.

    The same arguments give the same draws, so figures of two models over the same rounds come out paired.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    length = ceil(rounds ** (1 / 3))
    blocks = ceil(rounds / length)
    rows = max(1, _CHUNK_NUMBERS // rounds)
    for start in range(0, count, rows):
        begins = generator.integers(0, rounds, size=(min(rows, count - start), blocks, 1))
        within = (begins + np.arange(length)) % rounds
        yield within.reshape(len(within), blocks * length)[:, :rounds]


def round_replicates(values: Floats, figure: RoundFigure, *, seed: int) -> Floats:
    """`figure` of each of `RESAMPLES` draws of all `values` float64 [N], N of 1 or more: float64 [RESAMPLES]."""
    return np.concatenate([figure(values[indices]) for indices in block_draws(len(values), seed=seed)])


def percentile_of(percentile: float) -> RoundFigure:
    """The percentile (0 to 100) of every draw, interpolated linearly."""

    def figure(drawn: Floats) -> Floats:
        found: npt.NDArray[np.float64] = np.percentile(drawn, percentile, axis=1)
        return found

    return figure


def mean_of(drawn: Floats) -> Floats:
    """The mean of every draw."""
    return np.asarray(drawn.mean(axis=1), dtype=np.float64)
