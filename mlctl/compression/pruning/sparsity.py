"""Zeros in the weights of a network: making them, and counting them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import nn

from mlctl.compression.pruning.input_lengths import input_lengths
from mlctl.compression.pruning.prunable_weights import Prunable, Weight, prunable_weights
from mlctl.compression.pruning.weight_choice import (
    Choice,
    Lengths,
    by_output,
    by_pattern,
    by_size,
    fits_pattern,
    inputs_of,
)
from mlctl.errors import StepFailed
from mlctl.models.complete import CompleteModel
from mlctl.recipe.prune import PatternPruning, UnstructuredPruning
from mlctl.recipe.wording import listed
from mlctl.training.batches import Samples

WeightPruning: TypeAlias = UnstructuredPruning | PatternPruning


@dataclass(frozen=True)
class LayerZeros:
    """How many weights of a layer are zero."""

    name: str
    """The layer's; with the parameter's own where the layer has several: `body.weight_ih_l0`."""
    weights: int
    zeros: int

    @property
    def share(self) -> float:
        """Zeros of all weights."""
        return self.zeros / self.weights


@dataclass(frozen=True)
class Sparsity:
    """Zeros in the weights of a network."""

    layers: tuple[LayerZeros, ...]
    """All that can be pruned, in the network's order."""
    whole: Mapping[str, str]
    """What was left as it is, by name, and why, in words."""
    unseen: tuple[str, ...] = ()
    """Layers of `layers` whose inputs could not be seen, so that weights went by their own size."""

    @property
    def weights(self) -> int:
        """Weights of all `layers`."""
        return sum(layer.weights for layer in self.layers)

    @property
    def zeros(self) -> int:
        """Zeros of all `layers`."""
        return sum(layer.zeros for layer in self.layers)

    @property
    def share(self) -> float:
        """Zeros of all weights of all `layers`."""
        return self.zeros / self.weights


def sparsity_of(network: nn.Module, protect: tuple[str, ...] = ()) -> Sparsity:
    """The zeros that a network has now. Raises what `prunable_weights` raises."""
    return _counted(prunable_weights(network, protect))


def asked_share(settings: WeightPruning) -> float:
    """The share of zeros that the settings ask for in all: `ratio`, or what the pattern leaves out."""
    if isinstance(settings, PatternPruning):
        return 1 - settings.keep / settings.group
    return settings.ratio


def prune_weights(
    model: CompleteModel, settings: WeightPruning, share: float, samples: Samples | None = None
) -> Sparsity:
    """Set `share` of the weights of `model.network` to zero, in place; what is zero already counts as chosen first.

    `share` is `asked_share(settings)`, or a part of it where pruning goes in steps; of a pattern it is rounded to whole
    weights of a group. `importance: wanda` looks at all `samples`, which nothing else needs; where the inputs of a
    layer cannot be seen, its weights are compared by their sizes, still within each output, and it is named in
    `unseen`. Layers whose inputs are no multiple of the pattern's group are named in `whole`.

    The same weights, settings and samples give the same zeros. Raises StepFailed where a layer would be left without a
    weight, and what `prunable_weights` raises; the network is then as it was.
    """
    prunable = prunable_weights(model.network, settings.protect)
    chosen = _fitting(prunable, settings)
    lengths: Lengths = {}
    unseen: tuple[str, ...] = ()
    if settings.importance == "wanda":
        if samples is None:
            raise ValueError("importance: wanda needs samples")
        lengths = input_lengths(model, chosen.weights, samples)
        unseen = tuple(weight.name for weight in chosen.weights if weight.name not in lengths)
    _clear(chosen.weights, _choice(chosen.weights, settings, share, lengths))
    return replace(_counted(prunable), whole=chosen.whole, unseen=unseen)


def _fitting(prunable: Prunable, settings: WeightPruning) -> Prunable:
    """What the settings' pattern can be laid over."""
    if not isinstance(settings, PatternPruning):
        return prunable
    uneven = {
        weight.name: f"its {inputs_of(weight)} inputs are no multiple of {settings.group}"
        for weight in prunable.weights
        if not fits_pattern(weight, settings.group)
    }
    weights = tuple(weight for weight in prunable.weights if weight.name not in uneven)
    if not weights:
        raise StepFailed(
            f"no layer has inputs in multiples of {settings.group}: {listed(uneven)}", next="choose a smaller `group`"
        )
    return Prunable(weights, {**prunable.whole, **uneven})


def _choice(weights: tuple[Weight, ...], settings: WeightPruning, share: float, lengths: Lengths) -> Choice:
    if isinstance(settings, PatternPruning):
        return by_pattern(weights, round(share * settings.group), settings.group, lengths)
    if settings.importance == "wanda":
        return by_output(weights, share, lengths)
    return by_size(weights, share, settings.scope)


@torch.no_grad()
def _clear(weights: tuple[Weight, ...], chosen: Choice) -> None:
    for weight, goes in zip(weights, chosen, strict=True):
        weight.parameter.masked_fill_(goes, 0.0)


def _counted(prunable: Prunable) -> Sparsity:
    counts = torch.stack([(weight.parameter.detach() == 0).sum() for weight in prunable.weights]).tolist()
    layers = tuple(
        LayerZeros(weight.name, weight.parameter.numel(), zeros)
        for weight, zeros in zip(prunable.weights, counts, strict=True)
    )
    return Sparsity(layers, prunable.whole)
