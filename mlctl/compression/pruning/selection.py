"""Which units stay, so that a target is met."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import Literal, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlctl.compression.pruning.dependencies import Indices, UnitGroup
from mlctl.compression.pruning.protection import is_protected, protected_layers
from mlctl.compression.pruning.removal_order import RemovalOrder, Scope
from mlctl.compression.pruning.unit_costs import UnitCosts
from mlctl.errors import StepFailed
from mlctl.recipe.prune import StructuredPruning

Counted: TypeAlias = Literal["parameters", "multiply-adds"]

SETTING: dict[Counted, str] = {"parameters": "parameters", "multiply-adds": "flops"}
"""The setting of a recipe that asks for each."""
SHOWN = 8
"""Layers whose reason a message says."""
ROUNDING = 1e-9
"""What a product of shares may be off by: 0.9 of 10 is not 9 in float64."""


@dataclass(frozen=True)
class Rules:
    """What a selection is bound to: where units are compared, what a layer's number is a multiple of, what stays."""

    scope: Scope = "global"
    round_to: int = 1
    protect: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeptUnits:
    """The share of its units that each group is to keep, or all of them together where they are compared so."""

    share: float
    original: Mapping[str, int]
    """Units of every group of the original network, by its name."""


@dataclass(frozen=True)
class KeptCost:
    """The share of what is counted that is to be left at most, and how much of it the original network has."""

    counted: Counted
    share: float
    original: int


Target: TypeAlias = KeptUnits | KeptCost
"""Both are held against the original network, of which the one at hand may be what steps before have left."""


@dataclass(frozen=True)
class Whole:
    """A network before anything was taken out, which targets are shares of."""

    units: Mapping[str, int]
    """Units of every group by its name."""
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Selection:
    """Which units stay, and what the network is then."""

    kept: Mapping[str, Indices]
    """The units that stay in each group that loses some, ascending, by its name."""
    removed: Mapping[str, int]
    """How many each of those groups loses."""
    units: int
    """Of all groups together."""
    parameters: int
    multiply_adds: int


def whole(costs: UnitCosts) -> Whole:
    """The network that `costs` counts, as the one that targets are shares of."""
    cost = costs.cost()
    units = {group.name: group.count for group in costs.found.groups}
    return Whole(units, cost.parameters, cost.multiply_adds)


def target(pruning: StructuredPruning, original: Whole, done: float = 1.0) -> Target | None:
    """What is to stay when the share `done` of the pruning is done; None where a recipe asks for neither a share of
    units, of parameters nor of arithmetic.

    After step i of n, `done` is i / n: the share to be removed grows in equal steps, always of the original network.
    """
    if pruning.ratio is not None:
        return KeptUnits(1 - pruning.ratio * done, original.units)
    if pruning.parameters is not None:
        return KeptCost("parameters", 1 - (1 - pruning.parameters) * done, original.parameters)
    if pruning.flops is not None:
        return KeptCost("multiply-adds", 1 - (1 - pruning.flops) * done, original.multiply_adds)
    return None


def select(
    costs: UnitCosts, scores: Mapping[str, NDArray[np.float64]], wanted: Target, rules: Rules | None = None
) -> Selection:
    """The selection that meets `wanted` with as little removed as its order of units allows.

    `scores` [U] of each group, by its name, say what its units are worth; a group without stays whole, and so does one
    in a protected layer, and one with fewer units than `round_to`. Numbers of units are met to the nearest whole
    number, and where they are compared over the network, are those of the groups that may lose any. Every other group
    keeps a multiple of `round_to`, and one such number at least.

    Raises StepFailed where the target cannot be met so, and says how far one can go; and for a protected layer that the
    network does not have.
    """
    rules = rules or Rules()
    groups = eligible(costs, scores, rules)
    if not groups and not _is_done(costs, wanted):
        refuse_nothing(costs)
    order = RemovalOrder(groups, scores, rules.scope, rules.round_to)
    if isinstance(wanted, KeptCost):
        numbers = _within_cost(costs, order, wanted)
    elif rules.scope == "layer":
        numbers = _of_each(groups, wanted, rules.round_to)
    else:
        numbers = _over_all(costs, order, wanted)
    return selection(costs, order, numbers)


def eligible(costs: UnitCosts, scores: Mapping[str, NDArray[np.float64]], rules: Rules) -> tuple[UnitGroup, ...]:
    """The groups that may lose units, in their order. Raises StepFailed for a protected layer that is not there."""
    protected = protected_layers(costs.network, rules.protect)
    return tuple(
        group
        for group in costs.found.groups
        if group.name in scores and group.count >= rules.round_to and not is_protected(group, protected)
    )


def refuse_nothing(costs: UnitCosts) -> NoReturn:
    """Raise StepFailed for a network of which no unit may go, with the layers' reasons."""
    reasons = "; ".join(f"{layer}: {reason}" for layer, reason in list(costs.found.fixed.items())[:SHOWN])
    raise StepFailed(
        f"no layer can lose a unit{f' ({reasons})' if reasons else ''}",
        next="protect less, lower `round_to`, or choose another network",
    )


def selection(costs: UnitCosts, order: RemovalOrder, numbers: Mapping[str, int]) -> Selection:
    """The selection that keeps so many units of each group, those that go last."""
    cost = costs.cost(numbers)
    removed = {name: costs.groups[name].count - number for name, number in numbers.items()}
    removed = {name: number for name, number in removed.items() if number}
    kept = {name: order.units(name, numbers[name]) for name in removed}
    return Selection(kept, removed, cost.units, cost.parameters, cost.multiply_adds)


def _of_each(groups: tuple[UnitGroup, ...], wanted: KeptUnits, round_to: int) -> dict[str, int]:
    """Of every group its own number."""
    numbers = {}
    for group in groups:
        number = _nearest(wanted.share * wanted.original.get(group.name, group.count))
        if not number:
            _refuse_emptying(groups, wanted)
        numbers[group.name] = min(max(number // round_to, 1), group.count // round_to) * round_to
    return numbers


def _refuse_emptying(groups: tuple[UnitGroup, ...], wanted: KeptUnits) -> None:
    units, name = min((wanted.original.get(group.name, group.count), group.name) for group in groups)
    # Down to half a unit, which is one to the nearest whole number.
    possible = floor(1000 * (1 - 0.5 / units)) / 1000
    raise StepFailed(
        f"a ratio of {1 - wanted.share:.3g} leaves no unit of {name}, which has {units}",
        next=f"set `ratio` to {possible:g} or less, or name the layer under `protect`",
    )


def _over_all(costs: UnitCosts, order: RemovalOrder, wanted: KeptUnits) -> dict[str, int]:
    """Units of all groups together."""
    single = len(_single(costs, wanted))
    counted = wanted.original.keys() - (costs.groups.keys() - set(order.names))
    most = _nearest(wanted.share * sum(each for name, each in wanted.original.items() if name in counted))
    found = order.first(lambda kept: single + sum(kept.values()) <= most)
    if found is None:
        least = single + sum(order.least().values())
        possible = floor(1000 * (1 - least / sum(wanted.original[name] for name in counted))) / 1000
        raise StepFailed(
            f"{most} units are to stay, and {least} stay where every layer keeps as few as it can",
            next=f"set `ratio` to {possible:g} or less, lower `round_to`, or protect less",
        )
    return found


def _single(costs: UnitCosts, wanted: Target) -> frozenset[str]:
    """Groups of the original that are down to one unit, and so are none any more."""
    return frozenset(wanted.original.keys() - costs.groups.keys()) if isinstance(wanted, KeptUnits) else frozenset()


def _is_done(costs: UnitCosts, wanted: Target) -> bool:
    """Whether steps before have done it all, so that nothing need be left to take out."""
    if isinstance(wanted, KeptUnits):
        return bool(_single(costs, wanted))
    return _count(costs, wanted, {}) <= _most(wanted)


def _count(costs: UnitCosts, wanted: KeptCost, kept: Mapping[str, int]) -> int:
    return costs.parameters(kept) if wanted.counted == "parameters" else costs.multiply_adds(kept)


def _most(wanted: KeptCost) -> float:
    return wanted.share * wanted.original * (1 + ROUNDING)


def _within_cost(costs: UnitCosts, order: RemovalOrder, wanted: KeptCost) -> dict[str, int]:
    """Parameters or multiply-adds of the whole network."""
    found = order.first(lambda kept: _count(costs, wanted, kept) <= _most(wanted))
    if found is None:
        possible = ceil(1000 * _count(costs, wanted, order.least()) / wanted.original) / 1000
        raise StepFailed(
            f"{wanted.share:.3g} of the {wanted.counted} are to stay, and {possible:g} stay where every layer keeps as "
            "few units as it can",
            next=f"set `{SETTING[wanted.counted]}` to {possible:g} or more, lower `round_to`, or protect less",
        )
    return found


def _nearest(number: float) -> int:
    """The nearest whole number; a half rounds up."""
    return floor(number * (1 + ROUNDING) + 0.5)
