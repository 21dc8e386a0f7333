"""What a regression learns by, and the end of its graph."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlctl.data.description import Scaling
from mlctl.recipe.vocabulary import Direction
from mlctl.tasks.objective import Objective


@dataclass(frozen=True)
class Unit:
    """The target's own unit: raw numbers are `mean` and so many deviations."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, scaling: Scaling) -> "Unit":
        """The unit that prepared data were scaled from."""
        mean = scaling.mean[0] if scaling.mean else 0.0
        deviation = scaling.deviation[0] if scaling.deviation else 1.0
        return cls(mean * scaling.scale, deviation * scaling.scale)


class OwnUnit(nn.Module):
    """raw [B, 1] times `deviation` plus `mean`, as [B]."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32), persistent=False)

    def forward(self, raw: Tensor) -> Tensor:
        """Predictions in the target's own unit, [B]."""
        return raw.float().squeeze(1) * self.deviation + self.mean


class SquaredError(Objective):
    """Mean squared error over deviations; watches it, and rmse and mae in the target's own unit."""

    watched: tuple[tuple[str, Direction], ...] = (("loss", "lower"), ("rmse", "lower"), ("mae", "lower"))

    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over raw outputs [B, 1] and targets [B] in their own unit."""
        return functional.mse_loss(outputs.squeeze(1), self._deviations(targets))

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Summed squares and summed absolute values of the error, in deviations."""
        error = outputs.float().squeeze(1).double() - self._deviations(targets).double()
        return torch.stack([(error * error).sum(), error.abs().sum()])

    def figures(self, totals: Tensor, count: int) -> tuple[float, ...]:
        """Mean square in deviations; rmse and mae in the target's own unit."""
        if not count:
            return math.nan, math.nan, math.nan
        squares, absolutes = totals.tolist()
        unit = self._unit.deviation
        return squares / count, math.sqrt(squares / count) * unit, absolutes / count * unit

    def _deviations(self, targets: Tensor) -> Tensor:
        return (targets - self._unit.mean) / self._unit.deviation
