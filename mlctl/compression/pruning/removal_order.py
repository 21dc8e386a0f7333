"""In which order units go, and how many of each group have gone at any point of it."""

# G groups that lose units, N units that may go

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlctl.compression.pruning.dependencies import Indices, UnitGroup

Scope: TypeAlias = Literal["global", "layer"]
"""Whether units are compared over the whole network, or within each layer."""


class RemovalOrder:
    """All units that may go, the least important first.

    With `scope` "global" by their scores, and equals by the share of their group that would have gone before them; with
    "layer" by that share alone, so that all groups shrink alike and equals go together. Within a group the same units
    go first either way, and the last `round_to` never go. A group keeps a multiple of `round_to`: its units go in
    parcels, each when the last unit of the parcel is due.
    """

    def __init__(
        self, groups: Sequence[UnitGroup], scores: Mapping[str, NDArray[np.float64]], scope: Scope, round_to: int
    ) -> None:
        """`scores` has [U] for each of the groups, none of which has fewer units than `round_to`."""
        self.names = tuple(group.name for group in groups)
        self._units = np.array([group.count for group in groups], np.int64)
        self._ascending = {name: np.argsort(scores[name], kind="stable") for name in self.names}
        self._round_to = round_to
        sizes = [group.count - round_to for group in groups]
        score = _joined([scores[name][ascending] for name, ascending in self._ascending.items()], sizes)
        # The middle of a unit's share, so that the units that go are to the nearest number those of the share.
        share = _joined([(np.arange(group.count) + 0.5) / group.count for group in groups], sizes)
        number = np.repeat(np.arange(len(groups)), sizes)
        order = np.lexsort((share, score)) if scope == "global" else np.argsort(share, kind="stable")
        self._groups: NDArray[np.int64] = number[order]
        stops = np.arange(len(order) + 1)
        if scope == "layer" and len(order):
            stops = np.concatenate(([0], np.flatnonzero(np.diff(share[order])) + 1, [len(order)]))
        self._stops: NDArray[np.int64] = stops

    def first(self, is_enough: Callable[[Mapping[str, int]], bool]) -> dict[str, int] | None:
        """Units kept in each group where for the first time `is_enough` of them; None where it never is.

        What is enough must stay so when more units go.
        """
        place = bisect_left(range(len(self._stops)), True, key=lambda stop: is_enough(self.kept(stop)))
        return self.kept(place) if place < len(self._stops) else None

    def least(self) -> dict[str, int]:
        """Units kept in each group where all have gone that may."""
        return self.kept(len(self._stops) - 1)

    def kept(self, stop: int) -> dict[str, int]:
        """Units kept in each group at stop number `stop`, from 0."""
        gone = np.bincount(self._groups[: self._stops[stop]], minlength=len(self.names))
        parcels = -(-(self._units - gone) // self._round_to)
        kept = np.minimum(parcels, self._units // self._round_to) * self._round_to
        return dict(zip(self.names, kept.tolist(), strict=True))

    def units(self, name: str, number: int) -> Indices:
        """Which units stay where `number` of the group do, ascending."""
        ascending = self._ascending[name]
        return np.sort(ascending[len(ascending) - number :])


def _joined(values: Sequence[NDArray[np.float64]], sizes: Sequence[int]) -> NDArray[np.float64]:
    """The first `sizes` of each of the values, [N]."""
    return np.concatenate([np.empty(0), *(each[:size] for each, size in zip(values, sizes, strict=True))])
