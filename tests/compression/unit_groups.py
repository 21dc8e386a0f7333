"""Small networks with the groups of their units written by hand."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlctl.compression.pruning.dependencies import Arithmetic, Dependencies, Indices, Place, UnitGroup
from mlctl.models.complete import CompleteModel, InputScaling

torch.set_num_threads(1)  # these networks are too small to be shared

Kind = Literal["channels", "units", "heads"]


def each(count: int, per_unit: int = 1, start: int = 0) -> Indices:
    """Indices [count, per_unit] in a row from `start` on."""
    return start + np.arange(count * per_unit).reshape(count, per_unit)


def group(name: str, count: int, *axes: tuple[str, int], kind: Kind = "units") -> UnitGroup:
    """Units that have one index along each of the axes."""
    return UnitGroup(name, kind, tuple(Place(tensor, axis, each(count)) for tensor, axis in axes))


class Chain(nn.Module):
    """Linear layers with ReLU between them: [B, widths[0]] → [B, widths[-1]]."""

    def __init__(self, widths: Sequence[int], *, bias: bool = True) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair, bias=bias) for pair in pairwise(widths))

    def forward(self, values: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            values = functional.relu(layer(values))
        found: Tensor = self.layers[-1](values)
        return found


def chain(widths: Sequence[int], *, bias: bool = True, device: str = "cpu") -> tuple[Chain, Dependencies]:
    """A chain, and its hidden units."""
    torch.manual_seed(3)
    with torch.device(device):
        network = Chain(widths, bias=bias)
    groups = []
    for number, width in enumerate(widths[1:-1]):
        axes = [(f"layers.{number}.weight", 0), *([(f"layers.{number}.bias", 0)] if bias else [])]
        groups.append(group(f"layers.{number}", width, *axes, (f"layers.{number + 1}.weight", 1)))
    layers = list(enumerate(pairwise(widths)))
    arithmetic = tuple(Arithmetic(f"layers.{at}", a * b, f"layers.{at}.weight", None) for at, (a, b) in layers)
    return network, Dependencies(tuple(groups), {f"layers.{len(layers) - 1}": "is the answer"}, arithmetic, ())


class Images(nn.Module):
    """Two convolutions with batch normalization, the second in two groups, then a linear layer: [B, 2, 5, 5] → [B, 3].

    Nothing normalises after the second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 6, 3, groups=2)
        self.head = nn.Linear(6, 3)

    def hidden(self, images: Tensor) -> Tensor:
        """What the second convolution reads, [B, 4, 3, 3]."""
        return functional.relu(self.norm(self.first(images)))

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.head(functional.relu(self.second(self.hidden(images))).flatten(1))
        return answers


def images() -> tuple[Images, Dependencies]:
    """The network with figures that are no beginner's, and its channels: two of each that stand at one position in both
    groups of the second convolution."""
    torch.manual_seed(4)
    network = Images().eval()
    with torch.no_grad():
        for values in (network.norm.weight, network.norm.bias, network.norm.running_mean, network.norm.running_var):
            assert values is not None
            values.copy_(torch.rand(4) + 0.5)
    # Channels 0 and 2 are read by weights 0 of the two groups, 1 and 3 by weights 1.
    pairs = np.array([[0, 2], [1, 3]])
    own = ("first.weight", "first.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    first = UnitGroup(
        "first", "channels", (*(Place(tensor, 0, pairs) for tensor in own), Place("second.weight", 1, each(2)))
    )
    threes = np.array([[0, 3], [1, 4], [2, 5]])
    second = UnitGroup(
        "second",
        "channels",
        (Place("second.weight", 0, threes), Place("second.bias", 0, threes), Place("head.weight", 1, threes)),
    )
    arithmetic = (
        Arithmetic("first", 2 * 4 * 9 * 9, "first.weight", None),
        Arithmetic("second", 6 * 2 * 9, "second.weight", None),
        Arithmetic("head", 18, "head.weight", None),
    )
    return network, Dependencies((first, second), {"head": "is the answer"}, arithmetic, ())


def complete(network: nn.Module) -> CompleteModel:
    """The network with inputs as they are."""
    return CompleteModel(network, (InputScaling(),), nn.Identity())
