"""What is known of a network while it runs once: labels of every tensor's dimensions, and the modules at work."""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from mlctl.compression.pruning.dependency_labels import Dimensions, Labels, UnitLabels
from mlctl.models.structure import COUNTER_NAMES

Kind: TypeAlias = Literal["channels", "units"]


@dataclass
class Split:
    """A labelled dimension in parts of which several could be the units: what is done to them decides.

    `grid` has one axis for each part. A part that is indexed or sliced holds no units.
    """

    labels: UnitLabels
    grid: Labels
    candidates: dict[int, tuple[str, ...]]
    """The parts that could be the units, and the attributes that hold their number."""
    trace: "Trace"
    chosen: Labels | None = None

    def exclude(self, part: int) -> None:
        """Say that a part holds no units."""
        if self.chosen is None and len(self.candidates) > 1:
            self.candidates.pop(part, None)
            if len(self.candidates) == 1:
                self.along(part)

    def along(self, part: int) -> Labels | None:
        """The labels along a part, chosen now if they are not yet: of several parts the first."""
        if self.chosen is None:
            unit = next(iter(self.candidates))
            grid = self.grid
            for axis in reversed(range(grid.ndim)):
                if axis != unit:
                    grid = self.labels.unite_along(grid, axis, "goes with what has a fixed size")
            self.chosen = grid
            self.trace.count(self.candidates[unit], grid)
        return self.chosen if part == next(iter(self.candidates)) else None


@dataclass(frozen=True)
class Part:
    """One dimension of a tensor that is a part of a split which is not decided yet."""

    split: Split
    part: int


Open: TypeAlias = tuple[Labels | Part | None, ...]


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer: its name in the state_dict, and its labels along every axis."""

    name: str
    axes: tuple[Labels, ...]


@dataclass(frozen=True)
class Product:
    """One operation that multiplies and adds, for one sample."""

    layer: str
    multiply_adds: int
    weight: str | None
    labels: tuple[Labels, ...]
    """Of products of activations: the labels along what is multiplied."""


@dataclass
class Trace:
    """Everything that a run tells of a network."""

    batch: int
    labels: UnitLabels = field(default_factory=UnitLabels)
    weights: list[Weight] = field(default_factory=list)
    outputs: dict[tuple[str, int], Kind] = field(default_factory=dict)
    """Axes of weights along which a layer's outputs lie, in the order of their use."""
    used: set[str] = field(default_factory=set)
    products: list[Product] = field(default_factory=list)
    counters: dict[str, Labels] = field(default_factory=dict)
    """Attributes that hold a number of units, and those."""
    answers: list[tuple[int, ...]] = field(default_factory=list)
    """The shapes of the network's own answers."""
    running: list[tuple[str, nn.Module]] = field(default_factory=list)
    """The modules at work, outermost first, with their paths."""
    _dimensions: MutableMapping[Tensor, Open] = field(default_factory=WeakTensorKeyDictionary)
    _origins: MutableMapping[Tensor, Weight] = field(default_factory=WeakTensorKeyDictionary)

    def add_weight(self, name: str, tensor: Tensor) -> None:
        """Give a parameter or buffer fresh labels."""
        weight = Weight(name, tuple(self.labels.fresh(size) for size in tensor.shape))
        self.weights.append(weight)
        self._dimensions[tensor] = weight.axes
        self._origins[tensor] = weight

    def open(self, tensor: Tensor) -> Open:
        """What is known of every dimension, undecided splits as such."""
        weight = self._origins.get(tensor)
        if weight is not None:
            self.used.add(weight.name)
        return self._dimensions.get(tensor, (None,) * tensor.ndim)

    def of(self, tensor: Tensor) -> Dimensions:
        """The labels of every dimension; splits are decided."""
        return tuple(each.split.along(each.part) if isinstance(each, Part) else each for each in self.open(tensor))

    def set(self, tensor: Tensor, found: Open) -> None:
        """Note what a tensor's dimensions are."""
        assert len(found) == tensor.ndim, f"{found} for {list(tensor.shape)}"
        self._dimensions[tensor] = found

    def origin(self, tensor: Tensor) -> Weight | None:
        """The parameter or buffer that a tensor is, or is a view of."""
        return self._origins.get(tensor)

    def set_origin(self, tensor: Tensor, weight: Weight) -> None:
        """Note that a tensor is a view of a parameter or buffer."""
        self._origins[tensor] = weight

    def note_output(self, weight: Weight, along: Labels | None, kind: Kind) -> None:
        """Note which axis of a weight gives a layer's outputs: the one whose labels `along` are."""
        for axis, labels in enumerate(weight.axes):
            if along is not None and len(labels) and labels[0] <= along[0] <= labels[-1]:
                self.outputs.setdefault((weight.name, axis), kind)

    def note_product(self, multiply_adds: int, weight: Weight | None, *labels: Labels | None) -> None:
        """Note the multiply-adds of all samples in one operation of the running module."""
        layer = layer_of(weight.name) if weight else self.running[-1][0]
        named = tuple(each for each in labels if each is not None) if weight is None else ()
        share = -(-multiply_adds // self.batch)
        self.products.append(Product(layer, share, weight.name if weight else None, named))

    def enter(self, path: str, module: nn.Module, taken: tuple[Tensor, ...]) -> None:
        """Note that a module is at work from now on, on tensors `taken`."""
        self.running.append((path, module))
        for kinds, place, name in _WIDTHS:
            if isinstance(module, kinds) and module.weight is None and taken:
                along = self.of(taken[0])[place]
                if along is not None and getattr(module, name) in (len(along), (len(along),)):
                    self.count((f"{path}.{name}",), along)
                else:
                    self.labels.freeze(along, f"is normalized in {path} over several dimensions")

    def counting(self, size: int) -> tuple[str, ...]:
        """Paths of the attributes, of the innermost running module that has any, that hold `size` heads."""
        for path, module in reversed(self.running):
            names = [name for name in COUNTER_NAMES if _holds(module, name, size)]
            if names:
                return tuple(f"{path}.{name}" if path else name for name in names)
        return ()

    def count(self, attributes: tuple[str, ...], along: Labels) -> None:
        """Note that attributes hold the number of units `along`; what one attribute counts goes together."""
        for attribute in attributes:
            before = self.counters.setdefault(attribute, along)
            if before is not along:
                self.labels.unite(before, along, f"is counted by {attribute} together with what has a fixed size")


_WIDTHS: Final[tuple[tuple[Any, int, str], ...]] = (
    ((nn.LayerNorm, nn.RMSNorm), -1, "normalized_shape"),
    ((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), 1, "num_features"),
)
"""Normalizations whose own number of units must follow where they have no weights: along which dimension it counts."""


def layer_of(tensor: str) -> str:
    """The path of the module that a parameter or buffer belongs to; its own name where that is the network."""
    return tensor.rpartition(".")[0] or tensor


def _holds(module: nn.Module, name: str, size: int) -> bool:
    value = getattr(module, name, None)
    return isinstance(value, int) and not isinstance(value, bool) and value == size


@dataclass(frozen=True)
class Call:
    """One operator at work: its arguments by name, and what it gave."""

    name: str
    arguments: Mapping[str, Any]
    given: Any

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that went in, in order."""
        found: list[Tensor] = []
        for value in self.arguments.values():
            parts = value if isinstance(value, list | tuple) else (value,)
            found += (each for each in parts if isinstance(each, torch.Tensor))
        return tuple(found)

    @property
    def results(self) -> tuple[Tensor, ...]:
        """All that came out, in order."""
        parts = self.given if isinstance(self.given, list | tuple) else (self.given,)
        return tuple(each for each in parts if isinstance(each, torch.Tensor))

    @property
    def result(self) -> Tensor:
        """The first that came out."""
        return self.results[0]


Rule: TypeAlias = Callable[[Trace, Call], None]
"""Notes what an operator's answers are, and what goes together through it."""
