"""What every layer of a network takes."""

from collections import Counter
from dataclasses import dataclass

from torch import nn

from mlctl.compression.pruning.dependencies import Dependencies
from mlctl.models.structure import Structure, original_name


@dataclass(frozen=True)
class LayerCost:
    """Parameters of a layer, those of layers within it aside, and its multiply-adds of one sample."""

    parameters: int
    multiply_adds: int


def layer_costs(network: nn.Module, found: Dependencies, structure: Structure | None) -> dict[str, LayerCost]:
    """The cost of every layer that has parameters, by its name in the network that a config builds.

    `structure` is what was kept of that one, if it was cut: names of what stands behind a removed block have moved up.
    """
    removed = structure.removed if structure else ()
    work = Counter[str]()
    for each in found.arithmetic:
        work[each.layer] += each.multiply_adds
    costs = {}
    for name, layer in network.named_modules():
        parameters = sum(each.numel() for each in layer.parameters(recurse=False))
        if parameters:
            costs[original_name(name, removed)] = LayerCost(parameters, work[name])
    return costs
