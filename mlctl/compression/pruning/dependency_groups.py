"""From labels to units: which indices of which tensors go together, and which units are alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlctl.compression.pruning.dependency_labels import Labels
from mlctl.compression.pruning.dependency_trace import Trace, Weight

TensorAxis: TypeAlias = tuple[str, int]

_SEED: Final = 5
"""Of the numbers that stand for axes in a signature; any will do."""


@dataclass(frozen=True)
class Alike:
    """Units that lie in the same axes with as many indices each."""

    roots: Labels
    """What unites the labels of every unit, in the order of the units."""
    places: tuple[tuple[TensorAxis, Labels], ...]
    """Axes in the order of the network's weights, with indices [units, indices of a unit]."""
    main: TensorAxis
    """The first axis along which a layer's outputs lie."""


@dataclass(frozen=True)
class _Entries:
    """Every index along every axis that may be cut: its unit's root, its axis by number, and itself."""

    roots: Labels
    axes: Labels
    indices: Labels

    def where(self, chosen: NDArray[np.bool_] | Labels) -> "_Entries":
        return _Entries(self.roots[chosen], self.axes[chosen], self.indices[chosen])


def alike(trace: Trace, frozen: Sequence[int]) -> Iterator[Alike]:
    """Units of layers that are not frozen, put together with those that lie in the same axes."""
    names = [(weight, axis) for weight in trace.weights for axis in range(len(weight.axes))]
    entries = _entries(trace, names)
    roots = int(entries.roots.max(initial=0)) + 1
    is_frozen = np.zeros(roots, bool)
    is_frozen[[each for each in frozen if each < roots]] = True
    entries = entries.where(~is_frozen[entries.roots])
    if not len(entries.roots):
        return
    random = np.random.default_rng(_SEED).integers(2**63, size=len(names), dtype=np.uint64)
    # A sum of 64 random bits for every index tells two sets of axes apart as surely as a hash.
    signatures = np.zeros(roots, np.uint64)
    np.add.at(signatures, entries.roots, random[entries.axes])
    used = {(name, axis): order for order, (name, axis) in enumerate(trace.outputs)}
    of_entries = signatures[entries.roots]
    order = np.argsort(of_entries, kind="stable")
    starts = np.flatnonzero(np.diff(of_entries[order])) + 1
    for chosen in sorted(np.split(order, starts), key=lambda each: int(each[0])):
        together = entries.where(chosen)
        if any((names[each][0].name, names[each][1]) in used for each in np.unique(together.axes).tolist()):
            yield _together(together, names, used)


def _entries(trace: Trace, names: Sequence[tuple[Weight, int]]) -> _Entries:
    """Of the weights that were used, in their order."""
    roots, axes, indices = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for number, (weight, axis) in enumerate(names):
        if weight.name in trace.used:
            labels = weight.axes[axis]
            roots.append(trace.labels.roots(labels))
            axes.append(np.full(len(labels), number))
            indices.append(np.arange(len(labels)))
    return _Entries(np.concatenate(roots), np.concatenate(axes), np.concatenate(indices))


def _together(entries: _Entries, names: Sequence[tuple[Weight, int]], used: dict[TensorAxis, int]) -> Alike:
    present, first = np.unique(entries.axes, return_index=True)
    numbers = present[np.argsort(first)].tolist()
    keys = {number: (names[number][0].name, names[number][1]) for number in numbers}
    leading = min((number for number in numbers if keys[number] in used), key=lambda number: used[keys[number]])
    # Units stand in the order of their first index in the layer that names them.
    roots = entries.roots[entries.axes == leading]
    roots = roots[np.sort(np.unique(roots, return_index=True)[1])]
    places = tuple((keys[number], _rows(entries.where(entries.axes == number), roots)) for number in numbers)
    return Alike(roots, places, keys[leading])


def _rows(entries: _Entries, roots: Labels) -> Labels:
    """The indices of every unit along one axis, [units, indices of a unit]."""
    order = np.argsort(roots)
    unit = order[np.searchsorted(roots, entries.roots, sorter=order)]
    return entries.indices[np.lexsort((entries.indices, unit))].reshape(len(roots), -1)
