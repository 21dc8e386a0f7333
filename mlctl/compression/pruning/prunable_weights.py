"""Which weights of a network can become zero, one by one."""

# O outputs of a layer, I inputs of one output, G groups of a convolution

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from mlctl.compression.pruning.protection import fits, require_matches
from mlctl.errors import StepFailed
from mlctl.recipe.wording import listed

_LAYERS: Final = (nn.Linear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
_TABLES: Final = (nn.Embedding, nn.EmbeddingBag)
_NORMS: Final = (_NormBase, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)

PROTECTED: Final = "protected by the recipe"
LOOKED_UP: Final = "rows of an embedding are looked up, not multiplied: zeros in them save no arithmetic"
NO_MATRIX: Final = "by its name or shape no matrix that inputs are multiplied by"


@dataclass(frozen=True, eq=False)
class Weight:
    """One tensor whose numbers can become zero."""

    name: str
    """Its layer's: `blocks.0.conv`; with the parameter's own where that is not `weight`: `body.weight_ih_l0`."""
    parameter: nn.Parameter
    layers: tuple[tuple[str, nn.Module], ...]
    """The layers that have it, by name; more than one share it."""
    turned_groups: int = 0
    """G of a transposed convolution, which stores inputs before outputs; 0 for all else."""

    def by_output(self, stored: Tensor) -> Tensor:
        """Numbers in the parameter's shape as [O, I, ...]: what makes up one output in one row; a view or a copy.

        Of a parameter of the network's own the first axis counts as that of outputs, as in torch's layers.
        """
        if not self.turned_groups:
            return stored
        groups = self.turned_groups
        return stored.reshape(groups, -1, *stored.shape[1:]).transpose(1, 2).flatten(0, 1)

    def as_stored(self, rows: Tensor) -> Tensor:
        """Numbers as `by_output` gives them, [O, I, ...], in the parameter's shape again."""
        return self.by_output(rows) if self.turned_groups else rows


@dataclass(frozen=True)
class Prunable:
    """What can become zero, and what stays whole."""

    weights: tuple[Weight, ...]
    whole: Mapping[str, str]
    """Tensors with two axes or more that are left alone, by name, and why, in words."""


@dataclass(frozen=True)
class _Owner:
    layer: str
    module: nn.Module
    attribute: str

    @property
    def path(self) -> str:
        return f"{self.layer}.{self.attribute}" if self.layer else self.attribute

    @property
    def name(self) -> str:
        return self.layer if self.layer and self.attribute == "weight" else self.path


def prunable_weights(network: nn.Module, protect: Sequence[str] = ()) -> Prunable:
    """The weights of linear, convolutional, recurrent and attention layers, and matrices of the network's own: what has
    two axes longer than 1, and `weight` or `kernel` in its name.

    Biases and normalizations are few, and shift or scale whole outputs; they are no weights here. Nor are embeddings,
    and so nor are heads that share an embedding's tensor: Sun et al. 2023 leave them out alike. Own parameters under
    other names are taken for what is added (positions, tokens). Layers whose name fits a glob of `protect`, and those
    within a module whose name does, stay whole.

    Raises StepFailed for a glob that fits nothing, and where no weight is left.
    """
    modules = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
    require_matches(protect, [*modules, *(name for name, _ in network.named_parameters())], modules)
    weights: list[Weight] = []
    whole: dict[str, str] = {}
    for parameter, owners in _owned(network):
        if not _has_rows(parameter, owners):
            continue
        reason = _why_whole(parameter, owners, protect)
        if reason:
            whole[owners[0].name] = reason
            continue
        layers = tuple((owner.layer, owner.module) for owner in owners)
        weights.append(Weight(owners[0].name, parameter, layers, _turned_groups(owners[0].module)))
    if not weights:
        raise StepFailed(
            f"the network has no weight that could become zero; whole stay: {listed(whole) or 'none'}",
            next="protect fewer layers, or choose another network",
        )
    return Prunable(tuple(weights), whole)


def _owned(network: nn.Module) -> Iterator[tuple[nn.Parameter, tuple[_Owner, ...]]]:
    """Every parameter once, with all who have it."""
    found: dict[int, tuple[nn.Parameter, list[_Owner]]] = {}
    for layer, module in network.named_modules(remove_duplicate=False):
        for attribute, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), (parameter, []))[1].append(_Owner(layer, module, attribute))
    for parameter, owners in found.values():
        yield parameter, tuple(owners)


def _has_rows(parameter: nn.Parameter, owners: tuple[_Owner, ...]) -> bool:
    is_vector = parameter.ndim < 2 or not parameter.is_floating_point()
    return not is_vector and not any(isinstance(owner.module, _NORMS) for owner in owners)


def _why_whole(parameter: nn.Parameter, owners: tuple[_Owner, ...], protect: Sequence[str]) -> str:
    if any(isinstance(owner.module, _TABLES) for owner in owners):
        return LOOKED_UP
    if any(fits(owner.path, glob) for owner in owners for glob in protect):
        return PROTECTED
    return "" if any(_is_weight(parameter, owner) for owner in owners) else NO_MATRIX


def _is_weight(parameter: nn.Parameter, owner: _Owner) -> bool:
    is_named = any(word in owner.attribute for word in ("weight", "kernel"))
    # A scale of the network's own may be stored as [1, C, 1, 1].
    return is_named and (isinstance(owner.module, _LAYERS) or sum(size > 1 for size in parameter.shape) > 1)


def _turned_groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, _ConvTransposeNd) else 0
