"""The training loop."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mlctl.events import Tell
from mlctl.models.complete import CompleteModel
from mlctl.recipe.train import FitSettings
from mlctl.tasks.objective import Objective
from mlctl.training.batches import Batches, Samples
from mlctl.training.failures import named_failures
from mlctl.training.history import EpochRecord, json_lines
from mlctl.training.interrupts import DeferredSignals
from mlctl.training.precision import Choice
from mlctl.training.run import Run, require_watched


@dataclass(frozen=True)
class Fitted:
    """What a training came to; the trained weights are in the network itself."""

    history: tuple[EpochRecord, ...]
    watched: tuple[str, ...]
    """Names of the validation figures in `history`."""
    kept_epoch: int
    """The epoch, from 1, whose weights the network has."""
    stopped_early: bool
    precision: Choice
    samples_per_second: float
    """Speed of this process over all it did, validation and checkpoints included; 0 where nothing was left to do."""

    @property
    def metrics_jsonl(self) -> str:
        """The history as JSON lines, the same bytes for the same training."""
        return json_lines(self.history, self.watched)


def fit(
    model: CompleteModel,
    train: Samples,
    validation: Samples,
    objective: Objective,
    settings: FitSettings,
    *,
    seed: int,
    device: torch.device,
    resume: Path,
    tell: Tell,
) -> Fitted:
    """Train `model.network` in place on `device`; the model ends there, in evaluation mode.

    Everything random flows from `seed`: torch's global generator is set to it, and the order of the samples is drawn
    from it. `resume` is a folder for this training alone (same settings, data and starting weights); training goes on
    from a checkpoint in it. Killed at any instant and started again, it ends in the same bytes, on the same device
    with as many threads. The checkpoint stays there; who owns the folder clears it.

    Raises Diverged where a loss is not a number, OutOfMemory, StepFailed where `settings` watch a figure that the
    objective does not give, and after SIGINT or SIGTERM Interrupted, or what the process's own handler raises.
    """
    require_watched(objective, settings)
    with _placed(model, device), named_failures(device), DeferredSignals() as signals:
        torch.manual_seed(seed)
        batches = Batches(train, settings.batch_size, device), Batches(validation, settings.batch_size, device)
        run = Run(model, objective, settings, batches, signals, resume=resume, tell=tell)
        while not run.is_over():
            model.train()
            for batch in run.train.shuffled(seed, run.state.epoch, first=run.state.step):
                run.train_step(batch)
                run.between_steps()
            model.eval()
            run.finish_epoch()
        run.state.take_best_weights()
    return Fitted(
        history=run.state.history,
        watched=tuple(name for name, _ in objective.watched),
        kept_epoch=run.best_epoch(),
        stopped_early=len(run.state.history) < settings.epochs,
        precision=run.precision,
        samples_per_second=run.pulse.rate(run.samples_done),
    )


@contextmanager
def _placed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The model on the device, its kernels in channels_last, and cuDNN free of chance; afterwards plain and at rest."""
    chance = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    # Small CNNs, 8×8 and 28×28 pixels, torch 2.13 on 1 and 2 cores: × 1.13–1.37 of the plain layout.
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = chance
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        model.eval()
