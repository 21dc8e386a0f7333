"""Which numbers of a network are the weights of its units, and sums over those of each unit."""

# U units of a group, K indices along an axis that go with one of them

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from mlctl.compression.pruning.dependencies import Dependencies, Place, UnitGroup

Scores: TypeAlias = NDArray[np.float64]
"""A number for each unit of a group, [U] float64."""

NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class UnitWeights:
    """The weights of a network's units: parameters of two dimensions or more that are no normalisation's scale.

    A bias or a scale is one number beside the many of a convolution, and says nothing by its size. A group that has
    nothing else is judged by what it has. A tensor that a group lists twice, as tied ones may be, counts once.
    """

    def __init__(self, network: nn.Module, found: Dependencies) -> None:
        self.network = network
        self.parameters = dict(network.named_parameters(remove_duplicate=False))
        self.places = {group.name: self._weights_of(group) for group in found.groups}

    @property
    def all_places(self) -> tuple[Place, ...]:
        """Of all groups."""
        return tuple(place for places in self.places.values() for place in places)

    def _weights_of(self, group: UnitGroup) -> tuple[Place, ...]:
        places = [place for place in group.places if place.tensor in self.parameters]
        keys = [(id(self.parameters[place.tensor]), place.axis, place.indices.tobytes()) for place in places]
        once = list(dict(zip(reversed(keys), reversed(places), strict=True)).values())[::-1]
        weights = tuple(place for place in once if self._is_weight(place.tensor))
        return weights or tuple(once)

    def _is_weight(self, name: str) -> bool:
        owner = self.network.get_submodule(name.rpartition(".")[0])
        return self.parameters[name].ndim >= 2 and not isinstance(owner, NORMALISATIONS)


class AxisSums:
    """Sums over what goes with each unit, of numbers in the shape of a network's weights.

    They are summed in float32, whose error of a millionth is far below what tells units apart, and which is ten times
    as fast here as float64.
    """

    def __init__(self, numbers: Callable[[str], Tensor], places: Iterable[Place]) -> None:
        """`numbers` gives those of a parameter by its name, in its shape; called once for each that `places` lie in."""
        axes: dict[str, set[int]] = {}
        for place in places:
            axes.setdefault(place.tensor, set()).add(place.axis)
        self._sums: dict[tuple[str, int], Scores] = {}
        for name, along in axes.items():
            values = _without_inner(numbers(name).detach(), max(along))
            for axis in along:
                others = [other for other in range(values.ndim) if other != axis]
                summed = values.sum(others) if others else values
                self._sums[name, axis] = summed.cpu().numpy().astype(np.float64)

    def by_unit(self, place: Place) -> Scores:
        """Sums for each unit there, [U]."""
        return per_unit(self._sums[place.tensor, place.axis], place)


def per_unit(values: Scores, place: Place) -> Scores:
    """Values for each index along a place's axis, summed over the indices of each unit: [U]."""
    found: Scores = values[place.indices].sum(1)
    return found


def _without_inner(values: Tensor, last: int) -> Tensor:
    """Summed over the dimensions behind both `last` and the second, which lie together in memory."""
    kept = max(last + 1, 2)
    if values.ndim <= kept:
        return values
    inner = values.flatten(kept)
    return inner[..., 0] if inner.shape[kept] == 1 else inner.sum(kept)


def batch_norm_scales(network: nn.Module) -> dict[str, nn.Parameter]:
    """The scales of batch normalizations, by name."""
    return {
        f"{name}.weight": part.weight
        for name, part in network.named_modules()
        if isinstance(part, _BatchNorm) and part.affine
    }


def over_mean(scores: Scores) -> Scores:
    """Scores divided by their mean; as they are where that is zero."""
    mean = scores.mean()
    return scores / mean if mean else scores
