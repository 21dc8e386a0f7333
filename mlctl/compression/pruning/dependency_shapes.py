"""Rules of operators that move, repeat, join and take apart, and leave every number as it is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from torch import Tensor

from mlctl.compression.pruning.dependency_labels import CONSTANT, Labels
from mlctl.compression.pruning.dependency_trace import Call, Open, Part, Rule, Trace
from mlctl.compression.pruning.dependency_views import view

FIXED_PLACES: Final = "is taken apart at fixed places"


def moved(order: Callable[[Call, int], Sequence[int]]) -> Rule:
    """A rule for what reorders dimensions: the old place of every new one."""

    def rule(trace: Trace, call: Call) -> None:
        known = trace.open(call["self"])
        trace.set(call.result, tuple(known[place] for place in order(call, len(known))))

    return rule


def _transposed(call: Call, count: int) -> list[int]:
    order = list(range(count))
    one, other = call["dim0"] % count, call["dim1"] % count
    order[one], order[other] = other, one
    return order


def unsqueeze(trace: Trace, call: Call) -> None:
    """A new dimension of size 1."""
    known = list(trace.open(call["self"]))
    known.insert(call["dim"] % (len(known) + 1), None)
    trace.set(call.result, tuple(known))


def squeeze(trace: Trace, call: Call) -> None:
    """Dimensions of size 1 go: all, one, or those that are named."""
    taken: Tensor = call["self"]
    named = call.arguments.get("dim", tuple(range(taken.ndim)))
    places = {place % taken.ndim for place in ([named] if isinstance(named, int) else named)} if taken.ndim else set()
    known = trace.open(taken)
    trace.set(
        call.result, tuple(each for place, each in enumerate(known) if place not in places or taken.shape[place] != 1)
    )


def expand(trace: Trace, call: Call) -> None:
    """Dimensions of size 1 are repeated, and new ones stand in front."""
    taken: Tensor = call["self"]
    new = call.result.ndim - taken.ndim
    kept = (
        each if size == given else None
        for each, size, given in zip(trace.open(taken), taken.shape, call.result.shape[new:], strict=True)
    )
    trace.set(call.result, ((None,) * new + tuple(kept)))


def repeat(trace: Trace, call: Call) -> None:
    """Dimensions are repeated end to end."""
    taken: Tensor = call["self"]
    new = call.result.ndim - taken.ndim
    known = (None,) * new + trace.of(taken)
    tiled = (None if each is None else np.tile(each, times) for each, times in zip(known, call["repeats"], strict=True))
    trace.set(call.result, tuple(tiled))


def _indexed(trace: Trace, tensor: Tensor, place: int) -> list[Labels | Part | None]:
    """What is known of a tensor whose dimension `place` is indexed by numbers that stand in the code."""
    known = list(trace.open(tensor))
    each = known[place]
    if isinstance(each, Part):
        each.split.exclude(each.part)
    else:
        trace.labels.freeze(each, FIXED_PLACES)
    return known


def select(trace: Trace, call: Call) -> None:
    """One index along a dimension."""
    place = call["dim"] % call["self"].ndim
    known = _indexed(trace, call["self"], place)
    trace.set(call.result, tuple(known[:place] + known[place + 1 :]))


def unbind(trace: Trace, call: Call) -> None:
    """Every index along a dimension as a tensor of its own."""
    place = call["dim"] % call["self"].ndim
    known = _indexed(trace, call["self"], place)
    for result in call.results:
        trace.set(result, tuple(known[:place] + known[place + 1 :]))


def cut_out(trace: Trace, call: Call) -> None:
    """A range of indices along a dimension; all of them are as before."""
    place = call["dim"] % call["self"].ndim
    if call["self"].shape == call.result.shape:
        trace.set(call.result, trace.open(call["self"]))
        return
    known = _indexed(trace, call["self"], place)
    known[place] = None
    trace.set(call.result, tuple(known))


def roll(trace: Trace, call: Call) -> None:
    """Indices move along dimensions."""
    known: Open = trace.open(call["self"])
    for place in call["dims"]:
        known = tuple(_indexed(trace, call["self"], place % call["self"].ndim))
    trace.set(call.result, known)


def flip(trace: Trace, call: Call) -> None:
    """Dimensions are read backwards."""
    taken: Tensor = call["self"]
    places = {place % taken.ndim for place in call["dims"]}
    known = trace.of(taken)
    trace.set(
        call.result,
        tuple(each[::-1] if place in places and each is not None else each for place, each in enumerate(known)),
    )


def split_evenly(trace: Trace, call: Call) -> None:
    """Pieces of one size. Units at one position of every piece go together, so that the pieces stay alike."""
    taken: Tensor = call["self"]
    place = call["dim"] % taken.ndim
    known = list(trace.open(taken))
    count, size = len(call.results), call.results[0].shape[place]
    each = known[place]
    if isinstance(each, Part):
        each.split.exclude(each.part)
        each = known[place] = each.split.along(each.part)
    if each is None or count == 1:
        shared = each
    elif taken.shape[place] != count * size:
        trace.labels.freeze(each, FIXED_PLACES)
        shared = None
    else:
        shared = trace.labels.unite_along(each.reshape(count, size), 0, "goes with a piece of fixed size")
    for result in call.results:
        trace.set(result, (*known[:place], shared, *known[place + 1 :]))


def split_as_told(trace: Trace, call: Call) -> None:
    """Pieces of sizes that stand in the code."""
    place = call["dim"] % call["self"].ndim
    known = _indexed(trace, call["self"], place)
    known[place] = None
    for result in call.results:
        trace.set(result, tuple(known))


def cat(trace: Trace, call: Call) -> None:
    """Tensors end to end along a dimension."""
    # What torch skips: an empty row is taken by `cat` along whatever stands beside it.
    parts = [each for each in call.tensors if each.shape != (0,)]
    place = call["dim"] % call.result.ndim
    known = [list(trace.of(each)) for each in parts]
    along = [each.pop(place) for each in known]
    found = list(
        beside(trace, known, [*call.result.shape[:place], *call.result.shape[place + 1 :]], "is concatenated with")
    )
    joined = None
    if any(each is not None for each in along):
        pieces = zip(along, parts, strict=True)
        joined = np.concatenate(
            [np.zeros(part.shape[place], np.int64) if each is None else each for each, part in pieces]
        )
    found.insert(place, joined)
    trace.set(call.result, tuple(found))


def stack(trace: Trace, call: Call) -> None:
    """Tensors side by side along a new dimension."""
    found = list(beside(trace, [trace.of(each) for each in call.tensors], call.tensors[0].shape, "is stacked with"))
    found.insert(call["dim"] % call.result.ndim, None)
    trace.set(call.result, tuple(found))


def beside(
    trace: Trace, known: Sequence[Sequence[Labels | None]], sizes: Sequence[int], doing: str
) -> tuple[Labels | None, ...]:
    """What dimensions of `sizes` are of which several tensors have the same: all of them united.

    Every one of `known` is as long as `sizes`.
    """
    found: list[Labels | None] = []
    for place, size in enumerate(sizes):
        entries = [each[place] for each in known]
        first = next((each for each in entries if each is not None), None)
        if first is not None and size > 1:
            reason = f"{doing} something of fixed size"
            for each in entries:
                if each is not first:
                    trace.labels.unite(first, np.zeros_like(first) if each is None else each, reason)
        found.append(first)
    return tuple(found)


def pad(trace: Trace, call: Call) -> None:
    """Constants before and after the indices of the last dimensions; fewer than none cuts some off."""
    known = list(trace.of(call["self"]))
    for number, (before, after) in enumerate(zip(call["pad"][::2], call["pad"][1::2], strict=True)):
        place = len(known) - 1 - number
        each = known[place]
        if each is not None and (before or after):
            if min(before, after) < 0:
                trace.labels.freeze(each, FIXED_PLACES)
                known[place] = None
            else:
                known[place] = np.pad(each, (before, after), constant_values=CONSTANT)
    trace.set(call.result, tuple(known))


SHAPE_RULES: Final[Mapping[str, Rule]] = {
    "t": moved(lambda call, count: range(count)[::-1]),
    "transpose": moved(_transposed),
    "permute": moved(lambda call, count: [place % count for place in call["dims"]]),
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "expand": expand,
    "repeat": repeat,
    "select": select,
    "unbind": unbind,
    "slice": cut_out,
    "roll": roll,
    "flip": flip,
    "split": split_evenly,
    "unsafe_split": split_evenly,
    "split_with_sizes": split_as_told,
    "unsafe_split_with_sizes": split_as_told,
    "cat": cat,
    "stack": stack,
    "view": view,
    "_unsafe_view": view,
    "reshape": view,
    "_reshape_alias": view,
    "constant_pad_nd": pad,
}
"""By operator, without namespace and overload."""

VIEWS: Final = frozenset(SHAPE_RULES) - {"cat", "stack", "roll", "flip", "constant_pad_nd"} | {
    "detach", "alias", "clone", "_to_copy", "lift_fresh",
}  # fmt: skip
"""Operators whose answer is still the weight that went in."""
