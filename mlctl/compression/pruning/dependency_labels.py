"""Labels of units: which indices of which tensors go together, as sets that are united while a network runs."""

from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Labels: TypeAlias = NDArray[np.int64]
"""One label for each index along a dimension."""

Dimensions: TypeAlias = tuple[Labels | None, ...]
"""What the indices of every dimension of a tensor stand for; None where the size cannot change."""

CONSTANT: Final = 0
"""The label of an index that cannot go, beside others that can."""


@dataclass
class UnitLabels:
    """Disjoint sets of labels (Galler & Fischer 1964), many united at once.

    The root of a set is its smallest label. A set that may not change is frozen, with the reason.
    """

    _parents: Labels = field(default_factory=lambda: np.zeros(1024, np.int64))
    _count: int = 1
    _reasons: list[str] = field(default_factory=lambda: [""])
    _frozen: list[tuple[Labels, int]] = field(default_factory=list)

    def fresh(self, count: int) -> Labels:
        """New labels, each a set of its own."""
        start, self._count = self._count, self._count + count
        if self._count > len(self._parents):
            grown = np.zeros(2 * self._count, np.int64)
            grown[:start] = self._parents[:start]
            self._parents = grown
        found = np.arange(start, self._count)
        self._parents[start : self._count] = found
        return found

    def roots(self, labels: Labels) -> Labels:
        """The root of every label's set, in the shape of `labels`."""
        found = self._parents[labels]
        while True:
            further = self._parents[found]
            if np.array_equal(further, found):
                break
            found = further
        self._parents[labels] = found
        return found

    def unite(self, first: Labels, second: Labels, reason: str) -> None:
        """Unite sets pair by pair; `first` and `second` broadcast. What meets a constant is frozen for `reason`."""
        first, second = np.broadcast_arrays(first, second)
        is_constant = (first == CONSTANT) | (second == CONSTANT)
        if is_constant.any():
            self.freeze(np.maximum(first, second)[is_constant], reason)
            first, second = first[~is_constant], second[~is_constant]
        while True:
            one, other = self.roots(first), self.roots(second)
            differs = one != other
            if not differs.any():
                return
            one, other = one[differs], other[differs]
            # Of several pairs with one larger root all but the smallest partner wait for the next round.
            np.minimum.at(self._parents, np.maximum(one, other), np.minimum(one, other))
            first, second = first[differs], second[differs]

    def unite_along(self, grid: Labels, axis: int, reason: str) -> Labels:
        """Unite what differs only in its place along `axis` of a grid of labels; those at its first place."""
        first: Labels = np.take(grid, 0, axis)
        self.unite(grid, np.expand_dims(first, axis), reason)
        return first

    def freeze(self, labels: Labels | None, reason: str) -> None:
        """Say that these may not go, and why."""
        if labels is None:
            return
        self._reasons.append(reason)
        self._frozen.append((labels[labels != CONSTANT], len(self._reasons) - 1))

    def why_frozen(self) -> dict[int, str]:
        """By the root of every frozen set, the first reason that was given."""
        found: dict[int, str] = {CONSTANT: "has a fixed size"}
        for labels, reason in self._frozen:
            for root in np.unique(self.roots(labels)).tolist():
                found.setdefault(root, self._reasons[reason])
        return found
