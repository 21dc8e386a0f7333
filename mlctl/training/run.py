"""One training under way: what happens at a step, at an epoch's end, and between."""

from pathlib import Path

import torch
from torch import Tensor

from mlctl.errors import Diverged, StepFailed
from mlctl.events import Tell
from mlctl.models.complete import CompleteModel
from mlctl.recipe.train import FitSettings
from mlctl.recipe.vocabulary import Direction
from mlctl.tasks.objective import Objective
from mlctl.training.batches import Batch, Batches
from mlctl.training.checkpoints import CheckpointFile
from mlctl.training.history import EpochRecord, finite_figures, has_stalled, last_improvement
from mlctl.training.interrupts import DeferredSignals
from mlctl.training.losses import CHECK_STEPS, EpochLosses
from mlctl.training.optimizers import make_optimizer
from mlctl.training.precision import autocast, choose_precision
from mlctl.training.pulse import Pulse
from mlctl.training.schedules import learning_rate
from mlctl.training.state import TrainingState


class Run:
    """A training's parts, wired; `fit` says in which order they work."""

    def __init__(
        self,
        model: CompleteModel,
        objective: Objective,
        settings: FitSettings,
        batches: tuple[Batches, Batches],
        signals: DeferredSignals,
        *,
        resume: Path,
        tell: Tell,
    ) -> None:
        """`batches` are those to learn from and those to validate on. Goes on from a checkpoint in `resume`."""
        self.model = model
        self.objective = objective
        self.settings = settings
        self.train, self.validation = batches
        self.signals = signals
        self.steps = len(self.train.sizes)
        self.total_steps = settings.epochs * self.steps
        self.precision = choose_precision(settings.precision, self.train.device)
        self.optimizer = make_optimizer(settings.optimizer, model.network)
        self.losses = EpochLosses(self.train.sizes, self.train.device)
        self.state = TrainingState(model.network, self.optimizer, self.losses)
        self.checkpoints = CheckpointFile(resume, settings.checkpoint_seconds, tell)
        if checkpoint := self.checkpoints.read(self.total_steps):
            self.state.restore(checkpoint)
        self.pulse = Pulse(tell, settings.epochs * self.train.count, self.samples_done)

    @property
    def samples_done(self) -> int:
        """Samples trained on since the very first step."""
        return self.state.epoch * self.train.count + (
            self.train.bounds[self.state.step - 1][1] if self.state.step else 0
        )

    def is_over(self) -> bool:
        """Whether the last epoch is done, or nothing gets better any more."""
        stopping = self.settings.early_stopping
        if stopping and has_stalled(*self._watched(stopping.metric), stopping.patience, stopping.min_delta):
            return True
        return self.state.epoch >= self.settings.epochs

    def learning_rate(self, step: int) -> float:
        """The learning rate of step `step`, from 0, of the epoch under way."""
        whole = self.state.epoch * self.steps + step
        return learning_rate(self.settings.schedule, self.settings.optimizer.lr, whole, self.total_steps)

    def train_step(self, batch: Batch) -> None:
        """Forward, backward, and one step of the optimizer. Raises Diverged, some steps later, for a bad loss."""
        loss = self.objective.loss(self._outputs(batch), batch.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(self.learning_rate(self.state.step))
        self.losses.put(self.state.step, loss.detach())
        self.state.step += 1
        if self.state.step % CHECK_STEPS == 0:
            self.check_losses()

    def between_steps(self) -> None:
        """Say where the training stands and write a checkpoint, where it is time; leave where a signal asks for it."""
        if self.pulse.is_due():
            self.pulse.beat(self.samples_done, self._detail())
        if self.signals.received is not None or self.checkpoints.is_due():
            self.check_losses()
            self.checkpoints.write(self.state.checkpoint(self.total_steps))
        if self.signals.received is not None:
            self.signals.hand_over()

    def finish_epoch(self) -> None:
        """Validate, write the epoch into the history, and keep its weights if they are the best so far."""
        self.check_losses()
        record = EpochRecord(
            epoch=self.state.epoch + 1,
            step=(self.state.epoch + 1) * self.steps,
            learning_rate=self.learning_rate(self.steps - 1),
            train_loss=self.losses.mean(),
            validation=finite_figures(self._validate()),
        )
        self.state.history = (*self.state.history, record)
        if self.settings.keep_best and self.best_epoch() == record.epoch:
            self.state.keep_weights()
        self.state.epoch, self.state.step = self.state.epoch + 1, 0

    def best_epoch(self) -> int:
        """The epoch, from 1, whose weights are to be kept."""
        last = len(self.state.history)
        if not self.settings.keep_best:
            return last
        improved = last_improvement(*self._watched(self.settings.keep_best))
        return last if improved is None else improved + 1

    def check_losses(self) -> None:
        """Wait for the device and look at the epoch's losses. Raises Diverged at the first that is not a number."""
        strange = self.losses.first_not_finite(self.state.step)
        if strange is not None:
            raise Diverged(
                f"the loss is not a finite number at step {self.state.epoch * self.steps + strange + 1} (epoch "
                f"{self.state.epoch + 1}), at a learning rate of {self.learning_rate(strange):.3g}"
            )

    @torch.inference_mode()
    def _validate(self) -> tuple[float, ...]:
        totals = []
        for batch in self.validation.in_order():
            totals.append(self.objective.totals(self._outputs(batch), batch.targets))
            self.between_steps()
        return self.objective.figures(torch.stack(totals).sum(0), self.validation.count)

    def _outputs(self, batch: Batch) -> Tensor:
        with autocast(self.precision, self.train.device):
            return self.model.raw_outputs(*batch.inputs).float()

    def _detail(self) -> str:
        shown = f"epoch {self.state.epoch + 1}/{self.settings.epochs}  step {self.state.step}/{self.steps}"
        return f"{shown}  loss {self.losses.latest(self.state.step - 1):.4g}"

    def _watched(self, metric: str) -> tuple[list[float | None], Direction]:
        names = [name for name, _ in self.objective.watched]
        index = names.index(metric)
        return [record.validation[index] for record in self.state.history], self.objective.watched[index][1]


def require_watched(objective: Objective, settings: FitSettings) -> None:
    """Raise StepFailed where the settings watch a figure that the objective does not give."""
    names = [name for name, _ in objective.watched]
    asked = [settings.keep_best, settings.early_stopping and settings.early_stopping.metric]
    for metric in asked:
        if metric is not None and metric not in names:
            raise StepFailed(f"{metric!r} is not watched while training", next=f"choose one of {', '.join(names)}")
