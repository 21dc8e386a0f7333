"""Everything of a training that changes from step to step."""

import torch
from torch import Tensor, nn

from mlctl.training.checkpoints import Checkpoint
from mlctl.training.history import EpochRecord
from mlctl.training.learner import Learner
from mlctl.training.losses import EpochLosses

BEST = "best"


class TrainingState:
    """The network and its optimizer, the position, the epoch's losses, the history, and the best weights so far.

    `step` steps are done of epoch `epoch`, both counted from 0. `best` is empty until an epoch was kept, lies on the
    host, and is never changed in place. Chance has no state: see `step_seed`.
    """

    def __init__(self, learner: Learner, losses: EpochLosses) -> None:
        self.learner = learner
        self.losses = losses
        self.epoch = 0
        self.step = 0
        self.history: tuple[EpochRecord, ...] = ()
        self.best: dict[str, Tensor] = {}

    @property
    def network(self) -> nn.Module:
        """The network that learns."""
        return self.learner.network

    def keep_weights(self) -> None:
        """Remember the weights and buffers as they are now as the best."""
        self.best = {name: each.detach().to("cpu", copy=True) for name, each in self.network.state_dict().items()}

    def take_best_weights(self) -> None:
        """Put the remembered weights and buffers back; where none were, the running mean's if there is one."""
        if self.best:
            self.network.load_state_dict(self.best)
        elif self.learner.mean:
            self.learner.mean.exchange()

    def checkpoint(self, total_steps: int) -> Checkpoint:
        """All of it as data; tensors are not copied."""
        return Checkpoint(
            total_steps=total_steps,
            epoch=self.epoch,
            step=self.step,
            micro_batch=self.learner.parts.size,
            history=self.history,
            tensors={f"{part}/{name}": each for part, named in self._parts().items() for name, each in named.items()},
            settled={f"{BEST}/{name}": each for name, each in self.best.items()},
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where the checkpoint was taken."""
        parts: dict[str, dict[str, Tensor]] = {part: {} for part in (*self._parts(), BEST)}
        for path, tensor in checkpoint.tensors.items():
            part, _, name = path.partition("/")
            parts[part][name] = tensor
        self.epoch, self.step, self.history = checkpoint.epoch, checkpoint.step, checkpoint.history
        self.learner.parts.size = checkpoint.micro_batch
        self.network.load_state_dict(parts["network"])
        self.learner.optimizer.load(parts["optimizer"])
        if self.learner.mean:
            self.learner.mean.load(parts["mean"])
        self.losses.load(parts["losses"])
        self.best = parts[BEST]

    def is_finite(self) -> bool:
        """Whether every weight is a finite number; waits for the device."""
        return bool(torch.stack([each.isfinite().all() for each in self.network.parameters()]).all())

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.learner.optimizer.state(),
            "mean": self.learner.mean.state() if self.learner.mean else {},
            "losses": self.losses.state(),
        }
