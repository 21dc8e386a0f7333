"""Which layers the recipe keeps whole."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from torch import nn

from mlctl.compression.pruning.dependencies import UnitGroup
from mlctl.errors import StepFailed
from mlctl.recipe.wording import did_you_mean, listed


def protected_layers(network: nn.Module, globs: Sequence[str]) -> frozenset[str]:
    """Names of the modules of `network` that match one of `globs`, or stand in one that does.

    Raises StepFailed for globs that match no module, which would be a silent mistake.
    """
    names = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
    require_matches(globs, names, names)
    return frozenset(name for name in names if any(fits(name, glob) for glob in globs))


def require_matches(globs: Sequence[str], names: Sequence[str], layers: Sequence[str]) -> None:
    """Raise StepFailed for globs that fit none of `names`; the `layers` among them are shown."""
    missing = [glob for glob in globs if not any(fits(name, glob) for name in names)]
    if missing:
        meant = did_you_mean(missing[0], layers) or f"; its layers are {listed(layers)}"
        raise StepFailed(
            f"`protect` names {listed(missing)}, and the network has no such layer{meant}",
            next="mend `protect`, or take the name out of it",
        )


def fits(layer: str, glob: str) -> bool:
    """Whether a glob over layer names means this layer, or a module that it is part of."""
    parts = layer.split(".")
    above = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return any(name == glob or fnmatchcase(name, glob) for name in above)


def layers_of(group: UnitGroup) -> frozenset[str]:
    """The layers that a group's units lie in: its own, and the owners of its tensors."""
    return frozenset({group.name, *(place.tensor.rpartition(".")[0] for place in group.places)})


def is_protected(group: UnitGroup, protected: Collection[str]) -> bool:
    """Whether taking a unit of the group out would cut a protected layer."""
    return not layers_of(group).isdisjoint(protected)
