"""Which layers the recipe keeps whole."""

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn

from mlctl.compression.pruning.dependencies import UnitGroup
from mlctl.errors import StepFailed
from mlctl.recipe.wording import did_you_mean, listed


def protected_layers(network: nn.Module, globs: Sequence[str]) -> frozenset[str]:
    """Names of the modules of `network` that match one of `globs`, or stand in one that does.

    Raises StepFailed for a glob that matches no module, which would be a silent mistake.
    """
    names = [name for name, _ in network.named_modules() if name]
    for glob in globs:
        if not any(_fits(name, glob) for name in names):
            raise StepFailed(
                f"`protect` names {glob!r}, and the network has no such layer{did_you_mean(glob, names)}",
                next=f"name some of its layers: {listed(names)}",
            )
    return frozenset(name for name in names if any(_fits(outer, glob) for outer in _with_outer(name) for glob in globs))


def layers_of(group: UnitGroup) -> frozenset[str]:
    """The layers that a group's units lie in: its own, and the owners of its tensors."""
    return frozenset({group.name, *(place.tensor.rpartition(".")[0] for place in group.places)})


def is_protected(group: UnitGroup, protected: Collection[str]) -> bool:
    """Whether taking a unit of the group out would cut a protected layer."""
    return not layers_of(group).isdisjoint(protected)


def _with_outer(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def _fits(name: str, glob: str) -> bool:
    return name == glob or fnmatchcase(name, glob)
