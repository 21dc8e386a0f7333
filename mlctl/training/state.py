"""Everything of a training that changes from step to step."""

import torch
from torch import Tensor, nn

from mlctl.training.checkpoints import Checkpoint
from mlctl.training.history import EpochRecord
from mlctl.training.losses import EpochLosses
from mlctl.training.optimizers import Optimizer


class TrainingState:
    """The network and its optimizer, the position, the epoch's losses, the history, and the best weights so far.

    `step` steps are done of epoch `epoch`, both counted from 0. `best` is empty until an epoch was kept.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, losses: EpochLosses) -> None:
        self.network = network
        self.optimizer = optimizer
        self.losses = losses
        self.epoch = 0
        self.step = 0
        self.history: tuple[EpochRecord, ...] = ()
        self.best: dict[str, Tensor] = {}

    def keep_weights(self) -> None:
        """Remember the weights and buffers as they are now as the best."""
        self.best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def take_best_weights(self) -> None:
        """Put the remembered weights and buffers back, where some were remembered."""
        if self.best:
            self.network.load_state_dict(self.best)

    def checkpoint(self, total_steps: int) -> Checkpoint:
        """All of it as data; tensors are not copied."""
        tensors = {f"{part}/{name}": each for part, named in self._parts().items() for name, each in named.items()}
        return Checkpoint(total_steps, self.epoch, self.step, self.history, tensors)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where the checkpoint was taken, torch's random states included."""
        parts: dict[str, dict[str, Tensor]] = {part: {} for part in self._parts()}
        for path, tensor in checkpoint.tensors.items():
            part, _, name = path.partition("/")
            parts[part][name] = tensor
        self.epoch, self.step, self.history = checkpoint.epoch, checkpoint.step, checkpoint.history
        self.network.load_state_dict(parts["network"])
        self.optimizer.load(parts["optimizer"])
        self.best = {name: tensor.to(self.losses.values.device) for name, tensor in parts["best"].items()}
        self.losses.values.copy_(parts["losses"]["values"])
        torch.set_rng_state(parts["random"]["cpu"])
        if "cuda" in parts["random"] and self.losses.values.is_cuda:
            torch.cuda.set_rng_state(parts["random"]["cuda"], self.losses.values.device)

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        random = {"cpu": torch.get_rng_state()}
        if self.losses.values.is_cuda:
            random["cuda"] = torch.cuda.get_rng_state(self.losses.values.device)
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state(),
            "best": self.best,
            "losses": {"values": self.losses.values},
            "random": random,
        }
