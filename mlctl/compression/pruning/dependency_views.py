"""The rule of views: neighbouring dimensions that merge and split, and which part of a split counts units."""

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from operator import mul

import numpy as np

from mlctl.compression.pruning.dependency_labels import Labels
from mlctl.compression.pruning.dependency_trace import Call, Part, Split, Trace
from mlctl.models.structure import COUNTER_NAMES


def view(trace: Trace, call: Call) -> None:
    """Neighbouring dimensions merge, split, or both."""
    taken, given = call["self"], call.result
    known = trace.open(taken)
    if taken.shape == given.shape:
        trace.set(given, known)
        return
    found: list[Labels | Part | None] = [None] * given.ndim
    for old, new in _segments(taken.shape, given.shape):
        if len(old) == len(new) == 1:
            found[new[0]] = known[old[0]]
        else:
            labels = [
                each.split.along(each.part) if isinstance(each, Part) else each
                for each in (known[place] for place in old)
            ]
            sizes = ([taken.shape[place] for place in old], [given.shape[place] for place in new])
            for place, each in zip(new, _reshaped(trace, labels, *sizes), strict=True):
                found[place] = each
    trace.set(given, tuple(found))


def _segments(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The places of old dimensions and those that they become, in the smallest pieces; those of size 1 are left out."""
    waiting = [place for place, size in enumerate(new) if size != 1]
    found: list[tuple[list[int], list[int]]] = []
    if 0 in old:
        return found
    taken: list[int] = []
    given: list[int] = []
    for place in (place for place, size in enumerate(old) if size != 1):
        taken.append(place)
        while waiting and prod(new[each] for each in given) < prod(old[each] for each in taken):
            given.append(waiting.pop(0))
        if prod(new[each] for each in given) == prod(old[each] for each in taken):
            found.append((taken, given))
            taken, given = [], []
    return found


def _reshaped(
    trace: Trace, labels: Sequence[Labels | None], old: Sequence[int], new: Sequence[int]
) -> list[Labels | Part | None]:
    """What dimensions of sizes `new` are that hold the same numbers as those of sizes `old`."""
    nothing: list[Labels | Part | None] = [None] * len(new)
    labelled = [place for place, each in enumerate(labels) if each is not None]
    if not labelled:
        return nothing
    cells = _cells(old, new)
    if len(labelled) > 1 or cells is None:
        for place in labelled:
            trace.labels.freeze(labels[place], "is reshaped together with other units")
        return nothing
    along = labels[labelled[0]]
    assert along is not None
    shape = [size if place == labelled[0] else 1 for place, size in enumerate(old)]
    grid = np.broadcast_to(along.reshape(shape), old).reshape(cells)
    roots = trace.labels.roots(grid)
    varying = [axis for axis in range(len(cells)) if (roots != roots.take([0], axis)).any()]
    if len(varying) > 1:
        return _split(trace, grid, varying, cells, new)
    return list(_gathered(grid, varying, cells, new))


def _cells(old: Sequence[int], new: Sequence[int]) -> list[int] | None:
    """The sizes of the coarsest grid that both shapes merge, or None where there is none."""
    ends = sorted({*accumulate(old, mul), *accumulate(new, mul)} - {1})
    sizes = [end // start for start, end in zip([1, *ends], ends, strict=False)]
    return sizes if list(accumulate(sizes, mul)) == ends else None


def _gathered(grid: Labels, varying: Sequence[int], cells: Sequence[int], new: Sequence[int]) -> list[Labels | None]:
    """The labels of every new dimension: cells merge in order, and only those along one axis differ."""
    found: list[Labels | None] = []
    axis = 0
    for size in new:
        start = axis
        while prod(cells[start:axis]) < size:
            axis += 1
        inside = [each for each in varying if start <= each < axis]
        if not inside:
            found.append(None)
            continue
        index = tuple(slice(None) if start <= each < axis else 0 for each in range(len(cells)))
        found.append(grid[index].reshape(-1))
    return found


def _split(
    trace: Trace, grid: Labels, varying: Sequence[int], cells: Sequence[int], new: Sequence[int]
) -> list[Labels | Part | None]:
    """Units spread over several parts: those that an attribute counts hold, the others go with them."""
    candidates = {axis: trace.counting(cells[axis]) for axis in varying}
    candidates = {axis: names for axis, names in candidates.items() if names}
    if not candidates:
        names = ", ".join(COUNTER_NAMES[:3])
        where = trace.running[-1][0] or "the network"
        reason = f"is reshaped to {list(new)} in {where}, where no attribute ({names}, …) says which part counts units"
        trace.labels.freeze(grid.reshape(-1), reason)
        return [None] * len(new)
    if len(candidates) > 1:
        # The vector of a head stands last wherever there is one.
        candidates.pop(len(cells) - 1, None)
    split = Split(trace.labels, grid, candidates, trace)
    if len(candidates) > 1 and list(cells) == list(new):
        return [Part(split, axis) for axis in range(len(cells))]
    unit = next(iter(candidates))
    chosen = split.along(unit)
    assert chosen is not None
    whole = np.broadcast_to(chosen.reshape([-1 if axis == unit else 1 for axis in range(len(cells))]), cells)
    return list(_gathered(whole, [unit], cells, new))
