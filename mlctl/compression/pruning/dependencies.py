"""Which parts of a network can be taken out, and what goes with each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from mlctl.compression.pruning.dependency_checking import unsteady
from mlctl.compression.pruning.dependency_groups import Alike, alike
from mlctl.compression.pruning.dependency_trace import Trace, layer_of
from mlctl.compression.pruning.dependency_tracing import traced
from mlctl.models.structure import COUNTER_NAMES, Axis, Structure

Indices: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Place:
    """Where the units of a group lie in one tensor: row u of `indices` [U, K] are those along `axis` of unit u."""

    tensor: str
    """Name of a parameter or buffer of the network, as in its state_dict."""
    axis: int
    indices: Indices


@dataclass(frozen=True)
class UnitGroup:
    """Units that can be taken out one by one, each with all that goes with it."""

    name: str
    """The layer whose output they are: `blocks.0.conv`."""
    kind: Literal["channels", "units", "heads"]
    places: tuple[Place, ...]
    counters: tuple[str, ...] = ()
    """Attributes that hold their number: `blocks.0.attention.heads`."""
    counted: tuple[int, ...] = ()
    """For each of `counters`, how much one unit adds to it."""

    @property
    def count(self) -> int:
        """How many units there are."""
        return len(self.places[0].indices)


@dataclass(frozen=True)
class Arithmetic:
    """Multiply-adds of one sample in one operation, and what they are proportional to."""

    layer: str
    multiply_adds: int
    tensor: str | None
    """The weight, whose kept share along every axis they follow; or"""
    group: str | None
    """the group whose kept share they follow, for products of activations; where both are None they stay."""


@dataclass(frozen=True)
class Dependencies:
    """What can be taken out of a network."""

    groups: tuple[UnitGroup, ...]
    fixed: Mapping[str, str]
    """Layers that cannot be pruned, and why, in words."""
    arithmetic: tuple[Arithmetic, ...]
    blocks: tuple[str, ...]
    """Modules that can be taken out whole: of a ModuleList or Sequential, with output and input of one shape."""


def dependencies(network: nn.Module, example: tuple[Tensor, ...]) -> Dependencies:
    """What can be taken out of `network`, found by running it once on `example`, a few rows of its inputs.

    Units are followed through the operators of torch that run (Fang et al. 2023 follow layers); that the network runs
    without some of them is then tried on a copy. The network is as before afterwards. Raises whatever the network's own
    code raises.
    """
    trace, blocks = traced(network, example)
    reasons = trace.labels.why_frozen()
    groups: list[UnitGroup] = []
    homes: dict[int, str] = {}
    for each in alike(trace, list(reasons)):
        if len(each.roots) == 1:
            continue
        group = _group(trace, each, {known.name for known in groups})
        groups.append(group)
        homes |= dict.fromkeys(each.roots.tolist(), group.name)
    found = Dependencies(
        tuple(groups), _fixed(network, trace, groups, reasons), tuple(_arithmetic(trace, homes)), blocks
    )
    return _steady(network, example, trace, found)


def _steady(network: nn.Module, example: tuple[Tensor, ...], trace: Trace, found: Dependencies) -> Dependencies:
    """Without the groups, and the blocks, that the network's own code does not let go."""
    lists = {path.rpartition(".")[0]: path for path in found.blocks}
    names = (*(each.name for each in found.groups), *lists.values())

    def without(some: Sequence[str]) -> Structure:
        halves = {each.name: np.arange(max(1, each.count // 2)) for each in found.groups if each.name in some}
        return structure_of(network, found, halves, tuple(each for each in lists.values() if each in some))

    problems = unsteady(network, example, trace.answers, names, without)
    held = {each.name: problems[each.name] for each in found.groups if each.name in problems}
    return Dependencies(
        tuple(each for each in found.groups if each.name not in held),
        {**found.fixed, **held},
        tuple(replace(each, group=None) if each.group in held else each for each in found.arithmetic),
        tuple(each for each in found.blocks if lists[each.rpartition(".")[0]] not in problems),
    )


def _group(trace: Trace, units: Alike, taken: set[str]) -> UnitGroup:
    name = layer_of(units.main[0])
    names = chain((name,), (f"{name}:{number}" for number in count(2)))
    counted = {
        path: int(np.isin(trace.labels.roots(along), units.roots).sum()) for path, along in trace.counters.items()
    }
    held = {path: number // len(units.roots) for path, number in counted.items() if number}
    is_heads = any(path.rpartition(".")[2] in COUNTER_NAMES for path in held)
    places = tuple(Place(tensor, axis, indices) for (tensor, axis), indices in units.places)
    return UnitGroup(
        next(each for each in names if each not in taken),
        "heads" if is_heads else trace.outputs[units.main],
        places,
        tuple(held),
        tuple(held.values()),
    )


_LAYERS: Final = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding, nn.RNNBase)


def _fixed(network: nn.Module, trace: Trace, groups: Sequence[UnitGroup], reasons: Mapping[int, str]) -> dict[str, str]:
    """Why layers that lie in no group by their outputs do not."""
    free = {(place.tensor, place.axis) for group in groups for place in group.places}
    whole = {layer_of(tensor) for tensor, axis in trace.outputs if (tensor, axis) in free}
    axes = {weight.name: weight.axes for weight in trace.weights}
    found: dict[str, str] = {}
    for tensor, axis in trace.outputs:
        roots = trace.labels.roots(axes[tensor][axis]).tolist()
        if layer_of(tensor) not in whole:
            found.setdefault(
                layer_of(tensor), next((reasons[root] for root in roots if root in reasons), "has one unit alone")
            )
    for path, module in network.named_modules():
        if isinstance(module, _LAYERS) and path not in whole and path:
            found.setdefault(path, "no operation reads its weights as they are")
    return found


def _arithmetic(trace: Trace, homes: Mapping[int, str]) -> Iterator[Arithmetic]:
    for each in trace.products:
        roots = (root for labels in each.labels for root in trace.labels.roots(labels).tolist())
        group = next((homes[root] for root in roots if root in homes), None)
        yield Arithmetic(each.layer, each.multiply_adds, each.weight, group)


def structure_of(
    network: nn.Module, found: Dependencies, kept: Mapping[str, Indices], removed: tuple[str, ...] = ()
) -> Structure:
    """The structure that keeps units `kept` of each group, ascending, by its name; groups left out stay whole.

    It is that of `network` as it is now: `composed` puts it behind the one that cut the network before. Raises
    ValueError for a group that is not known, or left empty, and for units that do not exist or are not in order.
    """
    groups = {group.name: group for group in found.groups}
    gone: dict[Axis, list[Indices]] = {}
    counters: dict[str, int] = {}
    for name, units in kept.items():
        lost = _lost(groups, name, units)
        for place in groups[name].places if len(lost) else ():
            gone.setdefault(Axis(place.tensor, place.axis), []).append(place.indices[lost].ravel())
        for path, each in zip(groups[name].counters, groups[name].counted, strict=True):
            counters[path] = counters.get(path, _held(network, path)) - each * len(lost)
    sizes = {name: tensor.shape for name, tensor in network.state_dict(keep_vars=True).items()}
    indices = {axis: _others(sizes[axis.tensor][axis.axis], each) for axis, each in gone.items()}
    changed = {path: value for path, value in counters.items() if value != _held(network, path)}
    return Structure.of(indices, changed, removed)


def _others(size: int, gone: Sequence[Indices]) -> Indices:
    """The indices below `size` that are in none of `gone`, ascending."""
    stays = np.ones(size, bool)
    for each in gone:
        stays[each] = False
    return np.flatnonzero(stays)


def _lost(groups: Mapping[str, UnitGroup], name: str, units: Indices) -> Indices:
    """The units of a group that do not stay."""
    if name not in groups:
        raise ValueError(f"there is no group {name}")
    stay = np.zeros(groups[name].count, bool)
    if not len(units) or units[0] < 0 or units[-1] >= len(stay) or (np.diff(units) <= 0).any():
        raise ValueError(
            f"{name} has units 0 to {len(stay) - 1}, and keeps some of them in order, not {units.tolist()}"
        )
    stay[units] = True
    return np.flatnonzero(~stay)


def _held(network: nn.Module, path: str) -> int:
    parent, _, attribute = path.rpartition(".")
    value = getattr(network.get_submodule(parent), attribute)
    return int(value[-1] if isinstance(value, tuple) else value)
