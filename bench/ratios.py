"""Ratios of things that were measured in turn, with their spread."""

import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, and their quartiles."""

    median: float
    low: float
    high: float
    rounds: int
    reach: float | None = None

    @classmethod
    def of(cls, own: Sequence[float], other: Sequence[float], reach: float | None = None) -> "Ratio":
        """`own` over `other`, round by round."""
        ratios = [mine / theirs for mine, theirs in zip(own, other, strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high, len(ratios), reach)

    def __str__(self) -> str:
        reach = "" if self.reach is None else f", to reach {self.reach}"
        return f"x {self.median:.3f} (quartiles {self.low:.3f}-{self.high:.3f} of {self.rounds} rounds{reach})"


def seconds(command: Sequence[str]) -> float:
    """Wall time of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start
