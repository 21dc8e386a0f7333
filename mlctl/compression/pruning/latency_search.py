"""How many units have to go until a network is as fast as it shall be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlctl.compression.pruning.removal_order import RemovalOrder
from mlctl.compression.pruning.selection import Rules, Selection, eligible, refuse_nothing, selection
from mlctl.compression.pruning.unit_costs import UnitCosts
from mlctl.errors import StepFailed

Measure: TypeAlias = Callable[[Selection], float]
"""The latency of the network that a selection leaves, as a share of the original's."""

MOST_MEASUREMENTS = 8
CLOSE = 0.03
"""How far under its target, as a share of it, a latency may be for the search to end: medians vary by as much."""


@dataclass(frozen=True)
class Timed:
    """One measurement: what share of the multiply-adds was left, and what share of the latency."""

    multiply_adds: float
    latency: float


@dataclass(frozen=True)
class TimedSelection:
    """The selection that keeps most of those that were fast enough, and all that was measured, in order."""

    selection: Selection
    latency: float
    """Of the selection, as a share of the original's."""
    measured: tuple[Timed, ...]


def select_by_latency(
    costs: UnitCosts,
    scores: Mapping[str, NDArray[np.float64]],
    share: float,
    measure: Measure,
    rules: Rules | None = None,
    now: float = 1.0,
) -> TimedSelection:
    """The selection that leaves at most `share` of the original's latency, with 8 measurements at most.

    `now` is the share that the network at hand takes as it stands. Latency follows arithmetic closely enough that a
    straight line through two measurements says where to measure next; the search ends within 3 % under the target.

    Raises StepFailed where no measured selection is fast enough, and says how fast one was.
    """
    rules = rules or Rules()
    groups = eligible(costs, scores, rules)
    if now <= share:
        return TimedSelection(_whole(costs), now, ())
    if not groups:
        refuse_nothing(costs)
    return _Search(costs, RemovalOrder(groups, scores, rules.scope, rules.round_to), share, measure, now).found()


class _Search:
    """A bracket of shares of arithmetic, one side too slow, the other fast enough, that closes on the target."""

    def __init__(self, costs: UnitCosts, order: RemovalOrder, share: float, measure: Measure, now: float) -> None:
        self.costs = costs
        self.order = order
        self.share = share
        self.measure = measure
        self.whole = costs.cost().multiply_adds
        self.floor = costs.multiply_adds(order.least()) / self.whole
        self.slow = Timed(1.0, now)
        self.slower: Timed | None = None
        self.fast: Timed | None = None
        self.best: Selection | None = None
        self.seen: set[tuple[int, ...]] = set()
        self.measured: list[Timed] = []

    def found(self) -> TimedSelection:
        while len(self.measured) < MOST_MEASUREMENTS and self._narrow():
            pass
        if self.best is None or self.fast is None:
            fastest = min(each.latency for each in self.measured)
            raise StepFailed(
                f"{self.share:.3g} of the latency are to stay, and {fastest:.3g} stay of the fastest that was measured",
                next=f"set `latency` above {fastest:.3g}, lower `round_to`, or protect less",
            )
        return TimedSelection(self.best, self.fast.latency, tuple(self.measured))

    def _narrow(self) -> bool:
        """Measure once more; whether there is more to be found."""
        wanted = max(self._next(), self.floor)
        numbers = self.order.first(lambda kept: self.costs.multiply_adds(kept) <= wanted * self.whole)
        numbers = numbers or self.order.least()
        key = tuple(numbers.values())
        if key in self.seen:
            return False
        self.seen.add(key)
        candidate = selection(self.costs, self.order, numbers)
        timed = Timed(candidate.multiply_adds / self.whole, self.measure(candidate))
        self.measured.append(timed)
        if timed.latency > self.share:
            self.slower, self.slow = self.slow, timed
            return timed.multiply_adds > self.floor
        self.fast, self.best = timed, candidate
        return timed.latency < self.share * (1 - CLOSE)

    def _next(self) -> float:
        """The share of arithmetic at which a straight line meets the middle of what is close to the target."""
        aim = self.share * (1 - CLOSE / 2)
        if self.fast is None:
            return _extrapolated(self.slower, self.slow, aim)
        along = (aim - self.fast.latency) / (self.slow.latency - self.fast.latency)
        # Away from both sides, so that a curve cannot hold the search at one of them.
        along = min(max(along, 0.1), 0.9)
        return self.fast.multiply_adds + along * (self.slow.multiply_adds - self.fast.multiply_adds)


def _extrapolated(slower: Timed | None, slow: Timed, aim: float) -> float:
    """Where the line through two measurements meets `aim`; through one alone and no time for no arithmetic."""
    if slower is None or slower.latency <= slow.latency:
        return slow.multiply_adds * aim / slow.latency
    slope = (slower.multiply_adds - slow.multiply_adds) / (slower.latency - slow.latency)
    return slow.multiply_adds - slope * (slow.latency - aim)


def _whole(costs: UnitCosts) -> Selection:
    cost = costs.cost()
    return Selection({}, {}, cost.units, cost.parameters, cost.multiply_adds)
