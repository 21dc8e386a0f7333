"""A network together with what stands before and after it, so that training and serving cannot differ."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class InputScaling:
    """How raw values become numbers near 1: (raw / scale - mean) / deviation.

    `mean` and `deviation` are in units of raw / scale and hold one value for each index of a sample's first axis
    (channels of an image, columns of a table), or nothing for 0 and 1.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()


class Normalization(nn.Module):
    """(raw / scale - mean) / deviation in float32: [B, ...] of any number type → [B, ...] float32.

    A part that would change nothing is left out of the arithmetic, and so of the exported graph.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, scaling: InputScaling) -> None:
        super().__init__()
        self.scale = scaling.scale
        self.register_buffer("mean", torch.tensor(scaling.mean, dtype=torch.float32), persistent=False)
        self.register_buffer("deviation", torch.tensor(scaling.deviation, dtype=torch.float32), persistent=False)
        self.shifts = bool(scaling.mean)
        self.stretches = bool(scaling.deviation)

    def forward(self, raw: Tensor) -> Tensor:
        values = raw.to(torch.float32)
        along_first_axis = (-1, *(1,) * (raw.ndim - 2))
        if self.scale != 1.0:
            values = values / self.scale
        if self.shifts:
            values = values - self.mean.view(along_first_axis)
        if self.stretches:
            values = values / self.deviation.view(along_first_axis)
        return values


class TokenNumbers(nn.Module):
    """Tokens as a network looks them up: [B, T] of any whole number type → [B, T] int64."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.to(torch.int64)


class CompleteModel(nn.Module):
    """Raw inputs in, answers out.

    `network` takes one input for each of `input_scaling`, float32, or tokens as int64 where there is None; and gives
    raw outputs [B, outputs], or [B, T, outputs] for tokens [B, T]. `finish` turns those into answers (probabilities,
    numbers in the target's own unit, logits). Training uses `raw_outputs`, exporting the whole; both run the same
    arithmetic on the inputs.
    """

    def __init__(self, network: nn.Module, input_scaling: tuple[InputScaling | None, ...], finish: nn.Module) -> None:
        super().__init__()
        self.preparations = nn.ModuleList(
            TokenNumbers() if scaling is None else Normalization(scaling) for scaling in input_scaling
        )
        self.network = network
        self.finish = finish

    def preprocess(self, *raw: Tensor) -> tuple[Tensor, ...]:
        """What the network sees of raw inputs [B, ...]. Raises ValueError where inputs are missing or too many."""
        pairs = zip(self.preparations, raw, strict=True)
        return tuple(preparation(values) for preparation, values in pairs)

    def raw_outputs(self, *raw: Tensor) -> Tensor:
        """The network's outputs before `finish`."""
        outputs: Tensor = self.network(*self.preprocess(*raw))
        return outputs

    def forward(self, *raw: Tensor) -> Tensor:
        answers: Tensor = self.finish(self.raw_outputs(*raw))
        return answers
