"""What a classification learns by."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mlctl.recipe.vocabulary import Direction
from mlctl.tasks.objective import Objective


class CrossEntropy(Objective):
    """Mean cross entropy of the true class, in nats; watches the loss and the accuracy.

    What is learnt by may smooth labels and weigh classes. What is watched does neither, so that it means the same
    whatever a recipe says.
    """

    watched: tuple[tuple[str, Direction], ...] = (("loss", "lower"), ("accuracy", "higher"))

    def __init__(self, smoothing: float = 0.0, weights: Sequence[float] | None = None) -> None:
        """`smoothing` is the share of every label that is spread over all classes (Szegedy et al. 2016, section 7),
        `weights` has one number for every class."""
        self._smoothing = smoothing
        self._weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over logits [B, C] and class numbers [B]: each sample's loss times its class's weight, over B."""
        if self._weights is None:
            return functional.cross_entropy(outputs, targets, label_smoothing=self._smoothing)
        if self._weights.device != outputs.device:
            self._weights = self._weights.to(outputs.device)
        losses = functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=self._smoothing)
        # Over B and not over the weights' sum: parts of a batch, each by its share of samples, add up to the whole.
        return (losses * self._weights[targets]).mean()

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Summed loss and number of right answers."""
        loss = functional.cross_entropy(outputs.float(), targets, reduction="sum")
        return torch.stack([loss.double(), (outputs.argmax(dim=1) == targets).sum().double()])

    def figures(self, totals: Tensor, count: int) -> tuple[float, ...]:
        """Mean loss and accuracy."""
        return tuple(float(total) / count if count else math.nan for total in totals.tolist())
