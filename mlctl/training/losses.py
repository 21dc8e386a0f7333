"""The losses of an epoch, kept on the device so that no step waits for it."""

import torch
from torch import Tensor

CHECK_STEPS = 64
"""Steps between two looks for a loss that is not a number: a look waits for the device."""


class EpochLosses:
    """The loss of every step of one epoch, float32 [steps]; the epoch's order is that of the steps."""

    def __init__(self, sizes: tuple[int, ...], device: torch.device) -> None:
        self.values = torch.zeros(len(sizes), device=device)
        self.sizes = torch.tensor(sizes, dtype=torch.float64)

    def put(self, step: int, loss: Tensor) -> None:
        """Keep the loss of step `step`, from 0; nothing waits."""
        self.values[step] = loss

    def latest(self, step: int) -> float:
        """The loss of step `step`; waits for the device."""
        return float(self.values[step])

    def first_not_finite(self, steps: int) -> int | None:
        """The first of the first `steps` steps whose loss is not a finite number, if any; waits for the device."""
        strange = (~torch.isfinite(self.values[:steps])).nonzero()
        return int(strange[0]) if len(strange) else None

    def mean(self) -> float:
        """The mean loss of a sample over the whole epoch, summed in float64."""
        return float((self.values.cpu().double() * self.sizes).sum() / self.sizes.sum())
