"""What a training loop needs to know about a task."""

from typing import Protocol

from torch import Tensor

from mlctl.recipe.vocabulary import Direction


class Objective(Protocol):
    """What to minimise, and what to watch on the validation split.

    `outputs` are the network's raw outputs [B, ...] (before the task's final transformation), float32, and `targets`
    [B, ...] the samples' own, class numbers and tokens as int64.
    """

    watched: tuple[tuple[str, Direction], ...]
    """Names of the watched figures and which way is better; the first is `("loss", "lower")`."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a sample, a scalar: the sum over the samples, however each is weighed, over their number.

        So the losses of a batch's parts, each times its share of the samples, add up to that of the batch.
        """
        ...

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums over the batch from which `figures` are made, float64, on the device: no wait for the host."""
        ...

    def figures(self, totals: Tensor, count: int) -> tuple[float, ...]:
        """The watched figures, in the order of `watched`, from summed totals over `count` samples."""
        ...
