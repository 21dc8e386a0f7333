"""What a network costs once units are taken out of it, counted and not estimated."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from torch import nn

from mlctl.compression.pruning.dependencies import Dependencies, UnitGroup


@dataclass(frozen=True)
class Cost:
    """Units of all groups, parameters (tied ones once) and multiply-adds of one sample."""

    units: int
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class _Share:
    """Indices along one axis of a tensor that go with each unit of a group."""

    tensor: str
    axis: int
    per_unit: int


class UnitCosts:
    """The cost of a network for any number of units kept in each of its groups.

    The units of a group are alike in what goes with them, so that numbers of units decide and not which they are.
    Every count is an exact integer; a tensor that several groups cut, along one axis or along two, is counted as what
    is left of it.
    """

    def __init__(self, found: Dependencies, network: nn.Module) -> None:
        self.found = found
        self.network = network
        self.groups = {group.name: group for group in found.groups}
        self._names = _first_names(network)
        self._shapes = {name: tuple(each.shape) for name, each in network.named_parameters()}
        self._shares = {group.name: tuple(self._shares_of(group)) for group in found.groups}

    def cost(self, kept: Mapping[str, int] | None = None) -> Cost:
        """What it is with so many units `kept` in each group by its name; groups left out are whole."""
        numbers = self._numbers(kept or {})
        shapes = self._cut(numbers)
        return Cost(sum(numbers.values()), _parameters(shapes), self._multiply_adds(shapes, numbers))

    def parameters(self, kept: Mapping[str, int]) -> int:
        """The parameters alone."""
        return _parameters(self._cut(self._numbers(kept)))

    def multiply_adds(self, kept: Mapping[str, int]) -> int:
        """The multiply-adds alone."""
        numbers = self._numbers(kept)
        return self._multiply_adds(self._cut(numbers), numbers)

    def _numbers(self, kept: Mapping[str, int]) -> dict[str, int]:
        return {name: kept.get(name, group.count) for name, group in self.groups.items()}

    def _cut(self, numbers: Mapping[str, int]) -> dict[str, list[int]]:
        """The shape of every parameter once cut."""
        shapes = {name: list(shape) for name, shape in self._shapes.items()}
        for name, number in numbers.items():
            removed = self.groups[name].count - number
            for share in self._shares[name] if removed else ():
                shapes[share.tensor][share.axis] -= removed * share.per_unit
        return shapes

    def _multiply_adds(self, shapes: Mapping[str, list[int]], numbers: Mapping[str, int]) -> int:
        total = 0
        for each in self.found.arithmetic:
            left, whole = 1, 1
            tensor = self._names.get(each.tensor or "")
            if tensor is not None:
                left, whole = prod(shapes[tensor]), prod(self._shapes[tensor])
            elif each.group is not None and each.group in self.groups:
                left, whole = numbers[each.group], self.groups[each.group].count
            total += each.multiply_adds * left // whole if whole else 0
        return total

    def _shares_of(self, group: UnitGroup) -> Iterator[_Share]:
        """One for each axis of each parameter; buffers cost nothing that is counted."""
        indices: dict[tuple[str, int], set[bytes]] = {}
        per_unit: dict[tuple[str, int], int] = {}
        for place in group.places:
            key = self._names.get(place.tensor, ""), place.axis
            # A tied parameter has two names, and may be listed under both.
            same = place.indices.tobytes()
            if key[0] and same not in indices.setdefault(key, set()):
                indices[key].add(same)
                per_unit[key] = per_unit.get(key, 0) + place.indices.shape[1]
        return (_Share(*key, number) for key, number in per_unit.items())


def _first_names(network: nn.Module) -> dict[str, str]:
    """For every name of a parameter, the one that `named_parameters` gives; tied ones have several."""
    first = {id(each): name for name, each in network.named_parameters()}
    return {name: first[id(each)] for name, each in network.named_parameters(remove_duplicate=False)}


def _parameters(shapes: Mapping[str, list[int]]) -> int:
    return sum(prod(shape) for shape in shapes.values())
