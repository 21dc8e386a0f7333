"""How long the inputs of a network's layers are, over rows that it answers."""

# C channels or columns of an input, O outputs of a layer, I inputs of one output, G groups of a convolution

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from mlctl.compression.pruning.prunable_weights import Weight
from mlctl.compression.pruning.weight_choice import Lengths
from mlctl.models.complete import CompleteModel
from mlctl.training.batches import Batches, Samples
from mlctl.training.evaluation_mode import evaluation_mode

_BATCH: Final = 64
"""Rows that are answered at once: enough for the kernels, and little memory."""


def input_lengths(model: CompleteModel, weights: Sequence[Weight], samples: Samples) -> Lengths:
    """The root of the sum of squares of every input of a linear layer, or of a channel of a convolution's, by weight.

    Lengths are float32 [O or 1, I], over all `samples` (for a channel, and for a layer over tokens, over all places
    too) and all layers that share the weight, in the network as it is, in evaluation mode; it stays as it is. Sums are
    kept per input alone, whatever the number of rows. A weight whose inputs nobody sees is not in the answer: that of a
    recurrent or attention layer, which multiplies inside one kernel, or of the network's own code.
    """
    sums: dict[str, Tensor] = {}
    device = next(model.network.parameters()).device
    handles = [
        layer.register_forward_pre_hook(_adding(sums, weight.name), with_kwargs=True)
        for weight in weights
        for layer in _listened(weight)
    ]
    try:
        with evaluation_mode(model), torch.no_grad(), closing(Batches(samples, _BATCH, device).in_order()) as batches:
            for batch in batches:
                model.raw_outputs(*batch.inputs)
    finally:
        _let_go(handles)
    return {weight.name: _per_output(weight, sums[weight.name]) for weight in weights if weight.name in sums}


def _listened(weight: Weight) -> list[nn.Module]:
    layers = {id(layer): layer for _, layer in weight.layers if isinstance(layer, nn.Linear | _ConvNd)}
    return list(layers.values())


def _adding(sums: dict[str, Tensor], name: str) -> Callable[[nn.Module, tuple[Any, ...], Mapping[str, Any]], None]:
    def add(layer: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        inputs: Tensor = positional[0] if positional else named["input"]
        axis = inputs.ndim - 1 - (len(layer.kernel_size) if isinstance(layer, _ConvNd) else 0)
        others = [each for each in range(inputs.ndim) if each != axis]
        squares = inputs.float().square()
        found = squares.sum(others, dtype=torch.float64) if others else squares.double()
        sums[name] = sums[name] + found if name in sums else found

    return add


def _per_output(weight: Weight, sums: Tensor) -> Tensor:
    layer = next(layer for _, layer in weight.layers if isinstance(layer, nn.Linear | _ConvNd))
    lengths = sums.sqrt().float()
    if isinstance(layer, nn.Linear) or layer.groups == 1:
        return lengths[None]
    return lengths.view(layer.groups, -1).repeat_interleave(layer.out_channels // layer.groups, 0)


def _let_go(handles: Sequence[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
