"""Zeros that stay while a network learns again."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from mlctl.compression.pruning.prunable_weights import prunable_weights
from mlctl.errors import StepFailed
from mlctl.recipe.wording import listed

_BITS: Final = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class KeepZeros:
    """What is zero in a network's weights when this is made is zero after every step; `after_step` of `fit`.

    The zeros are those of the cut network, which a training that is started again begins with too, so nothing has to be
    remembered. They are cleared bit by bit: a product with zero would leave negative zeros, which compress badly and
    take a second pass to mend.
    """

    def __init__(self, network: nn.Module, protect: Sequence[str] = ()) -> None:
        """Layers that `protect` names are free to learn. Raises what `prunable_weights` raises."""
        self.weights = prunable_weights(network, protect).weights
        self.masks: list[Tensor] = []
        """All bits set where a weight lives, none where it is zero: integers in the parameters' shapes."""
        self.take_zeros()

    def __call__(self, done: float) -> None:
        """Clear what has moved; nothing waits for the device."""
        self.clear()

    def take_zeros(self) -> None:
        """From now on hold what is zero now."""
        values = [weight.parameter.detach() for weight in self.weights]
        self.masks = [(each != 0).to(_BITS[each.element_size()]).neg_() for each in values]

    def clear(self) -> None:
        """Set to zero what is held."""
        for index, weight in enumerate(self.weights):
            values = weight.parameter.detach()
            bits = values.view(_BITS[values.element_size()])
            mask = self.masks[index]
            if mask.device != bits.device or mask.stride() != bits.stride():
                # `fit` has moved the network since, or laid its kernels out anew.
                mask = self.masks[index] = torch.empty_like(bits).copy_(mask)
            bits.bitwise_and_(mask)

    def check(self) -> None:
        """Raise StepFailed where a weight lives that is held at zero."""
        broken = [
            weight.name
            for weight, mask in zip(self.weights, self.masks, strict=True)
            if bool((weight.parameter.detach() != 0)[mask.to(weight.parameter.device) == 0].any())
        ]
        if broken:
            raise StepFailed(
                f"weights that were pruned are not zero any more, in {listed(broken)}",
                next="name under `protect` the layers whose weights the network's own code changes",
            )
