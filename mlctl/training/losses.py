"""The losses of an epoch, kept on the device so that no step waits for it, and whether they are those of learning."""

from dataclasses import dataclass

import torch
from torch import Tensor

CHECK_STEPS = 64
"""Steps between two looks at the losses: a look waits for the device."""
GROWTH = 100.0
"""How many times what a training began with its loss may become. Losses are in nats, or in the variance of a
standardized target, so that knowing nothing costs about 1 to 11: no spike of a training that recovers lasts for half
of `CHECK_STEPS` steps at a hundred times that, and what explodes is soon there."""


@dataclass(frozen=True)
class Trouble:
    """What is wrong with the loss of step `step`, from 0, of the epoch."""

    step: int
    what: str


class EpochLosses:
    """The loss of every step of one epoch, float32 [steps], with the length of its gradient where that is known.

    `first` is the loss of the training's very first step, a scalar: nothing was learnt before it, so nothing can have
    gone wrong yet.
    """

    def __init__(self, sizes: tuple[int, ...], device: torch.device) -> None:
        self.values = torch.zeros(len(sizes), device=device)
        self.lengths = torch.zeros(len(sizes), device=device)
        self.first = torch.zeros((), device=device)
        self.sizes = torch.tensor(sizes, dtype=torch.float64)
        self.checked = 0

    def put(self, step: int, loss: Tensor, length: Tensor | None = None) -> None:
        """Keep the loss of step `step`, from 0, and its gradient's length; nothing waits."""
        self.values[step] = loss
        if length is not None:
            self.lengths[step] = length

    def put_first(self) -> None:
        """Keep the epoch's first loss as that of the training's first step."""
        self.first.copy_(self.values[0])

    def state(self) -> dict[str, Tensor]:
        """All of it by name, not copied."""
        return {"values": self.values, "lengths": self.lengths, "first": self.first}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the values of what `state` gave. Raises KeyError where a tensor is missing."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def begin_epoch(self) -> None:
        """Nothing of the epoch was looked at."""
        self.checked = 0

    def latest(self, step: int) -> float:
        """The loss of step `step`; waits for the device."""
        return float(self.values[step])

    def strange(self, steps: int) -> Trouble | None:
        """The first of the first `steps` steps whose loss or gradient is not finite, if any; waits for the device.

        Steps that were looked at before are left out.
        """
        since = self.checked
        both = torch.stack([self.values[since:steps], self.lengths[since:steps]]).isfinite().cpu()
        self.checked = steps
        bad = (~both.all(0)).nonzero()
        if not len(bad):
            return None
        place = int(bad[0])
        what = "the length of the gradient" if both[0, place] else "the loss"
        return Trouble(since + place, f"{what} is not a finite number")

    def grown(self, steps: int) -> Trouble | None:
        """Whether the median of the last `CHECK_STEPS` of `steps` losses is more than `GROWTH` times the first loss.

        A first loss below 1 counts as 1: a training that goes on from good weights may lose them without diverging.
        Waits for the device.
        """
        middle = float(self.values[max(0, steps - CHECK_STEPS) : steps].cpu().median())
        first = float(self.first)
        if middle <= GROWTH * max(first, 1.0):
            return None
        return Trouble(steps - 1, f"the loss has grown from {first:.4g} at the first step to {middle:.4g}")

    def mean(self) -> float:
        """The mean loss of a sample over the whole epoch, summed in float64."""
        return float((self.values.cpu().double() * self.sizes).sum() / self.sizes.sum())
