"""What a network can learn from beside its targets."""

from typing import Protocol

from torch import Tensor


class Teaching(Protocol):
    """A teacher's part in the loss; the whole is `hard` times the task's own, and this."""

    hard: float
    """Share of the task's own loss; 0 leaves it out."""

    def loss(self, outputs: Tensor, targets: Tensor, inputs: tuple[Tensor, ...], guides: tuple[Tensor, ...]) -> Tensor:
        """A scalar, the mean over the samples of how far the network is from its teacher.

        `outputs` are the network's raw outputs [B, ...] for raw `inputs`, [B, ...] each, as they were augmented, and
        `targets` [B, ...] the samples' own. `guides` are the samples' rows of what `Samples.guides` holds.
        """
        ...
