"""What `torch.compile` makes of a network."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

FEW_PARAMETERS = 5_000_000
"""Up to so many, a data-centre GPU is done with a kernel before the host has launched the next."""


@dataclass(frozen=True)
class Compilation:
    """Whether a network is compiled, how, and why so."""

    is_asked: bool
    records: bool
    """Whether its kernels are recorded once as a CUDA graph and then launched all together."""

    def __str__(self) -> str:
        if not self.is_asked:
            return "no: the recipe does not ask"
        graphs = ", with CUDA graphs: so small a network waits for its kernels' launches" if self.records else ""
        return f"yes: the recipe asks for it{graphs}"

    def compiled(self, network: nn.Module) -> nn.Module:
        """The network, or something with the same weights that answers the same, faster."""
        if not self.is_asked:
            return network
        return cast("nn.Module", torch.compile(network, mode="reduce-overhead" if self.records else "default"))


def compilation(network: nn.Module, device: torch.device, *, is_asked: bool, in_one_piece: bool) -> Compilation:
    """How to compile `network` for `device`, if that `is_asked`.

    A CUDA graph is overwritten at its next run: only where a batch is computed `in_one_piece`, by one process, does
    nothing that it made live so long.
    """
    parameters = sum(each.numel() for each in network.parameters())
    is_small = device.type == "cuda" and parameters <= FEW_PARAMETERS
    return Compilation(is_asked, is_asked and is_small and in_one_piece)
