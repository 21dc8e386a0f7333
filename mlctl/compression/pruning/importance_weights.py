"""What units are worth by the size of their own weights."""

# U units of a group

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from mlctl.compression.pruning.dependencies import Dependencies, UnitGroup
from mlctl.compression.pruning.unit_weights import AxisSums, Scores, UnitWeights, batch_norm_scales, over_mean, per_unit
from mlctl.errors import StepFailed


def weight_norms(network: nn.Module, found: Dependencies, power: int) -> dict[str, Scores]:
    """The length of each unit's weights, `power` 1 for sums of absolute values, 2 for Euclidean: [U] for each group.

    Li et al. 2017 take the filter that makes a channel; here the whole group counts, as in Fang et al. 2023: the mean
    over all tensors that the unit has weights in. Such means depend on how many weights a unit has and on how a layer
    was initialised, so that they are divided by the group's own mean: what is compared between groups is how a unit
    stands among its like.
    """
    weights = UnitWeights(network, found)

    def powers(name: str) -> torch.Tensor:
        values = weights.parameters[name].detach()
        return values.abs() if power == 1 else values.square()

    sums = AxisSums(powers, weights.all_places)
    return {
        name: over_mean(np.mean([sums.by_unit(place) ** (1 / power) for place in places], axis=0))
        for name, places in weights.places.items()
    }


def lamp(network: nn.Module, found: Dependencies) -> dict[str, Scores]:
    """Each unit's share of the squares of its group's units that are no smaller than it: [U] for each group.

    Lee et al. 2021 for single weights; here a unit's square is that of all its weights. The largest unit
    has 1 in every group, so that the scores compare between groups as they are.
    """
    weights = UnitWeights(network, found)
    sums = AxisSums(lambda name: weights.parameters[name].detach().square(), weights.all_places)
    return {
        name: _share_of_those_no_smaller(np.sum([sums.by_unit(place) for place in places], axis=0))
        for name, places in weights.places.items()
    }


def batch_norm_scale(network: nn.Module, found: Dependencies) -> dict[str, Scores]:
    """The mean size of the scales of each unit's batch normalizations (Liu et al. 2017): [U] for each group with one.

    What leaves a batch normalization is as large as its scale, in every layer, so that they compare between groups as
    they are. Raises StepFailed where no group has one.
    """
    scales = batch_norm_scales(network)
    scored = {group.name: _scale(group, scales) for group in found.groups}
    scores = {name: each for name, each in scored.items() if each is not None}
    if not scores:
        raise StepFailed(
            "no layer that could lose a unit has a batch normalization, by whose scale units were to be judged",
            next="choose another `importance`, such as l2",
        )
    return scores


def _scale(group: UnitGroup, scales: Mapping[str, nn.Parameter]) -> Scores | None:
    places = [place for place in group.places if place.tensor in scales]
    if not places:
        return None
    sizes = {place.tensor: scales[place.tensor].detach().abs().double().cpu().numpy() for place in places}
    found: Scores = np.mean([per_unit(sizes[place.tensor], place) / place.indices.shape[1] for place in places], axis=0)
    return found


def _share_of_those_no_smaller(squares: Scores) -> Scores:
    ascending = np.sort(squares)
    # Summed from the largest down; equals begin at the first of them, so that they have one score.
    from_here = np.cumsum(ascending[::-1])[::-1]
    totals = from_here[np.searchsorted(ascending, squares, side="left")]
    return np.divide(squares, totals, out=np.zeros_like(squares), where=totals > 0)
