"""The training loop."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from mlctl.events import Tell
from mlctl.models.complete import CompleteModel
from mlctl.recipe.train import FitSettings
from mlctl.recipe.vocabulary import Direction
from mlctl.tasks.objective import Objective
from mlctl.training.allocator import kept_memory
from mlctl.training.batches import Batches, Samples
from mlctl.training.checkpoints import CheckpointFile
from mlctl.training.choices import Chosen, choices_of
from mlctl.training.failures import named_failures
from mlctl.training.history import EpochRecord, json_lines
from mlctl.training.interrupts import DeferredSignals
from mlctl.training.learner import AfterStep, Learner
from mlctl.training.meeting import lost_peers
from mlctl.training.placing import placed
from mlctl.training.precision import Choice
from mlctl.training.processes import Group
from mlctl.training.run import Run, require_watched
from mlctl.training.teaching import Teaching
from mlctl.training.tracking import Trackers


@dataclass(frozen=True)
class Fitted:
    """What a training came to; the trained weights are in the network itself."""

    history: tuple[EpochRecord, ...]
    watched: tuple[tuple[str, Direction], ...]
    """Name and better direction of each of the validation figures in `history`."""
    kept_epoch: int
    """The epoch, from 1, whose weights the network has."""
    stopped_early: bool
    precision: Choice
    choices: tuple[Chosen, ...]
    """What was chosen without being asked for, and why."""
    samples_per_second: float
    """Speed of this process over all it did, validation and checkpoints included; 0 where nothing was left to do."""

    @property
    def metrics_jsonl(self) -> str:
        """The history as JSON lines, the same bytes for the same training."""
        return json_lines(self.history, tuple(name for name, _ in self.watched))


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
    group: Group | None = None,
    trackers: Trackers | None = None,
    teaching: Teaching | None = None,
    after_step: AfterStep | None = None,
) -> Fitted:
    """Train `model.network` in place on `device`; the model ends there, in evaluation mode.

    Everything random flows from `seed`: it decides the order of the samples, and before every step torch's global
    generators are set from it. `resume` is a folder for this training alone (same settings, data and starting
    weights); training goes on from a checkpoint in it. Killed at any instant and started again, it ends in the same
    bytes, on the same device with as many threads. The checkpoint stays there; who owns the folder clears it.

    Of several processes, each calls this with the same arguments and its own `group`. `trackers` hear of every epoch,
    `teaching` takes part in the loss, and `after_step` may change the weights, as they alone tell it to: a training
    that goes on from a checkpoint remembers nothing else.

    Raises Diverged where a loss is not a number or has grown far beyond its beginning, OutOfMemory, StepFailed where
    `settings` watch a figure that the objective does not give, DiskFull or MachineError where a checkpoint cannot be
    written, and after SIGINT or SIGTERM Interrupted, or what the process's own handler raises.
    """
    require_watched(objective, settings)
    group = group or Group.alone()
    with (
        kept_memory(device) as keeps_memory,
        placed(model, device),
        named_failures(device),
        DeferredSignals() as signals,
        CheckpointFile(resume, settings.checkpoint_seconds, tell) as checkpoints,
        lost_peers(),
    ):
        batches = (
            Batches(train, settings.batch_size, device, group),
            Batches(validation, settings.batch_size, device, group),
        )
        learner = Learner(
            model,
            objective,
            settings,
            batches[0],
            group=group,
            tell=tell,
            teaching=teaching,
            after_step=after_step,
        )
        run = Run(learner, batches, checkpoints, signals, trackers or Trackers(), seed=seed, tell=tell)
        run.rehearse()
        while not run.is_over():
            model.train()
            with closing(run.batches()) as epoch:
                for batch in epoch:
                    run.train_step(batch)
                    run.between_steps()
            model.eval()
            run.finish_epoch()
        run.state.take_best_weights()
    return Fitted(
        history=run.state.history,
        watched=objective.watched,
        kept_epoch=run.best_epoch(),
        stopped_early=len(run.state.history) < settings.epochs,
        precision=learner.precision,
        choices=choices_of(learner, batches, keeps_memory=keeps_memory),
        samples_per_second=run.pulse.rate(run.samples_done),
    )
