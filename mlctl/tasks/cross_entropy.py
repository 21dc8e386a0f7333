"""What a classification learns by."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from mlctl.recipe.vocabulary import Direction
from mlctl.tasks.objective import Objective


class CrossEntropy(Objective):
    """Mean cross entropy of the true class, in nats; watches the loss and the accuracy."""

    watched: tuple[tuple[str, Direction], ...] = (("loss", "lower"), ("accuracy", "higher"))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over logits [B, C] and class numbers [B]."""
        return functional.cross_entropy(outputs, targets)

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Summed loss and number of right answers."""
        loss = functional.cross_entropy(outputs.float(), targets, reduction="sum")
        return torch.stack([loss.double(), (outputs.argmax(dim=1) == targets).sum().double()])

    def figures(self, totals: Tensor, count: int) -> tuple[float, ...]:
        """Mean loss and accuracy."""
        return tuple(float(total) / count if count else math.nan for total in totals.tolist())
