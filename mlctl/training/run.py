"""One training under way: what happens at a step, at an epoch's end, and between."""

from collections.abc import Generator
from contextlib import closing, nullcontext

import torch

from mlctl.errors import Diverged, StepFailed
from mlctl.events import Tell
from mlctl.recipe.train import FitSettings
from mlctl.recipe.vocabulary import Direction
from mlctl.tasks.objective import Objective
from mlctl.training.batches import Batch, Batches
from mlctl.training.checkpoints import CheckpointFile, shared
from mlctl.training.history import EpochRecord, finite_figures, has_stalled, last_improvement
from mlctl.training.interrupts import DeferredSignals
from mlctl.training.learner import Learner
from mlctl.training.losses import CHECK_STEPS, EpochLosses, Trouble
from mlctl.training.pulse import Pulse
from mlctl.training.schedules import learning_rate
from mlctl.training.seeds import step_seed
from mlctl.training.state import TrainingState
from mlctl.training.tracking import Trackers


class Run:
    """A training's parts, wired; `fit` says in which order they work."""

    def __init__(
        self,
        learner: Learner,
        batches: tuple[Batches, Batches],
        checkpoints: CheckpointFile,
        signals: DeferredSignals,
        trackers: Trackers,
        *,
        seed: int,
        tell: Tell,
    ) -> None:
        """`batches` are those to learn from and those to validate on. Goes on from the checkpoint, if there is one."""
        self.learner = learner
        self.objective: Objective = learner.objective
        self.settings: FitSettings = learner.settings
        self.group = learner.group
        self.train, self.validation = batches
        self.checkpoints, self.signals, self.trackers = checkpoints, signals, trackers
        self.seed = seed
        self.steps = len(self.train.sizes)
        self.total_steps = self.settings.epochs * self.steps
        self.losses = EpochLosses(self.train.sizes, self.train.device)
        self.state = TrainingState(learner, self.losses)
        self._resume()
        self.pulse = Pulse(tell, self.settings.epochs * self.train.count, self.samples_done)

    @property
    def samples_done(self) -> int:
        """Samples trained on since the very first step."""
        return self.state.epoch * self.train.count + (
            self.train.bounds[self.state.step - 1][1] if self.state.step else 0
        )

    @property
    def watched(self) -> tuple[str, ...]:
        """Names of the figures on the validation split."""
        return tuple(name for name, _ in self.objective.watched)

    def is_over(self) -> bool:
        """Whether the last epoch is done, or nothing gets better any more."""
        stopping = self.settings.early_stopping
        if stopping and has_stalled(*self._watched(stopping.metric), stopping.patience, stopping.min_delta):
            return True
        return self.state.epoch >= self.settings.epochs

    def rehearse(self) -> None:
        """Let several processes find a micro-batch for which each has room: later none can begin a step again alone."""
        if self.group.count == 1:
            return
        self.learner.model.train()
        with closing(self.batches()) as epoch:
            if batch := next(epoch, None):
                self.learner.rehearse(batch, self.seed)

    def batches(self) -> Generator[Batch]:
        """What is left of the epoch under way."""
        return self.train.shuffled(self.seed, self.state.epoch, first=self.state.step)

    def learning_rate(self, step: int) -> float:
        """The learning rate of step `step`, from 0, of the epoch under way."""
        whole = self.state.epoch * self.steps + step
        return learning_rate(self.settings.schedule, self.settings.optimizer.lr, whole, self.total_steps)

    def train_step(self, batch: Batch) -> None:
        """Learn from a batch. Raises Diverged, some steps later, for a bad loss."""
        state = self.state
        seed = step_seed(self.seed, state.epoch, state.step, self.group.rank)
        done = (state.epoch * self.steps + state.step + 1) / self.total_steps
        learnt = self.learner.learn(batch, self.learning_rate(state.step), seed, done)
        self.losses.put(state.step, learnt.loss, learnt.length)
        if state.epoch == state.step == 0:
            self.losses.put_first()
        state.step += 1
        if state.step % CHECK_STEPS == 0:
            self.check_losses()

    def between_steps(self) -> None:
        """Say where the training stands and write a checkpoint, where it is time; leave where a signal asks for it."""
        if self.pulse.is_due():
            self.pulse.beat(self.samples_done, self._detail())
        leaving = self.group.obeyed(self.signals.received)
        if leaving is not None or (self.group.is_leader and self.checkpoints.is_due()):
            self.write_checkpoint()
        if leaving is not None:
            self.checkpoints.finish()
            self.signals.received = leaving
            self.signals.hand_over()

    def finish_epoch(self) -> None:
        """Validate, write the epoch into the history, and keep its weights if they are the best so far."""
        self.check_losses()
        mean = self.learner.mean
        with mean.in_network() if mean else nullcontext():
            self.learner.share_buffers()
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
        self.losses.begin_epoch()
        self.trackers.epoch(record, self.watched)
        every = self.settings.checkpoint_epochs
        if self.group.is_leader and every and record.epoch % every == 0:
            self.write_checkpoint()

    def best_epoch(self) -> int:
        """The epoch, from 1, whose weights are to be kept."""
        last = len(self.state.history)
        if not self.settings.keep_best:
            return last
        improved = last_improvement(*self._watched(self.settings.keep_best))
        return last if improved is None else improved + 1

    def check_losses(self) -> None:
        """Wait for the device and look at the epoch's losses. Raises Diverged at the first that cannot be."""
        done = self.state.step
        trouble = self.losses.strange(done)
        if trouble is None and done and (done % CHECK_STEPS == 0 or done == self.steps):
            trouble = self.losses.grown(done)
        if trouble:
            raise Diverged(self._said(trouble))

    def write_checkpoint(self) -> None:
        """Begin to write a checkpoint. Raises Diverged where it would keep what is not a number."""
        self.check_losses()
        if not self.state.is_finite():
            raise Diverged(self._said(Trouble(max(self.state.step - 1, 0), "a weight is not a finite number")))
        self.checkpoints.write(self.state.checkpoint(self.total_steps))

    def _resume(self) -> None:
        found = self.checkpoints.read(self.total_steps) if self.group.is_leader else None
        checkpoint = shared(found, self.group)
        if checkpoint:
            self.state.restore(checkpoint)
        for record in self.state.history:
            self.trackers.epoch(record, self.watched)

    @torch.inference_mode()
    def _validate(self) -> tuple[float, ...]:
        totals = []
        for batch in self.validation.in_order():
            totals.append(self.learner.totals(batch))
            self.between_steps()
        return self.objective.figures(self.group.sum(torch.stack(totals).sum(0)), self.validation.count)

    def _said(self, trouble: Trouble) -> str:
        number = self.state.epoch * self.steps + trouble.step + 1
        return (
            f"{trouble.what} at step {number} (epoch {self.state.epoch + 1}), at a learning rate of "
            f"{self.learning_rate(trouble.step):.3g}; its batch: "
            f"{self.train.said(self.seed, self.state.epoch, trouble.step)}"
        )

    def _detail(self) -> str:
        shown = f"epoch {self.state.epoch + 1}/{self.settings.epochs}  step {self.state.step}/{self.steps}"
        return f"{shown}  loss {self.losses.latest(self.state.step - 1):.4g}"

    def _watched(self, metric: str) -> tuple[list[float | None], Direction]:
        index = self.watched.index(metric)
        return [record.validation[index] for record in self.state.history], self.objective.watched[index][1]


def require_watched(objective: Objective, settings: FitSettings) -> None:
    """Raise StepFailed where the settings watch a figure that the objective does not give."""
    names = [name for name, _ in objective.watched]
    asked = [settings.keep_best, settings.early_stopping and settings.early_stopping.metric]
    for metric in asked:
        if metric is not None and metric not in names:
            raise StepFailed(f"{metric!r} is not watched while training", next=f"choose one of {', '.join(names)}")
