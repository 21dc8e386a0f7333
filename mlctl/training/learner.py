"""One step: gradients of a batch in parts that fit, and what the optimizer makes of them."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from mlctl.events import Tell
from mlctl.models.complete import CompleteModel
from mlctl.recipe.train import FitSettings
from mlctl.tasks.objective import Objective
from mlctl.training.augmentation import Augmentation
from mlctl.training.batches import Batch, Batches
from mlctl.training.compiling import compilation
from mlctl.training.optimizers import make_optimizer
from mlctl.training.parts import Parts, Slices
from mlctl.training.precision import autocast, choose_precision
from mlctl.training.processes import Group
from mlctl.training.regularization import clip_gradients
from mlctl.training.seeds import seed_generators
from mlctl.training.teaching import Teaching
from mlctl.training.weight_mean import WeightMean

AfterStep: TypeAlias = Callable[[float], None]
"""Called after every step of the optimizer, before a mean of the weights is taken, with the share of all steps done."""


@dataclass(frozen=True)
class Learnt:
    """What a step came to, on the device: the batch's mean loss, and the length of its gradient where one is set."""

    loss: Tensor
    length: Tensor | None


@dataclass(frozen=True)
class _Lesson:
    """A batch as it is learnt from: augmented, with the targets of those that every sample was blended with."""

    inputs: tuple[Tensor, ...]
    targets: Tensor
    guides: tuple[Tensor, ...]
    others: Tensor | None = None
    kept: Tensor | None = None

    def part(self, rows: slice) -> "_Lesson":
        """Some of its samples."""
        others = None if self.others is None else self.others[rows]
        inputs, guides = (tuple(each[rows] for each in arrays) for arrays in (self.inputs, self.guides))
        return _Lesson(inputs, self.targets[rows], guides, others, self.kept)


class Learner:
    """A network that learns, and all that stands between a batch and its step.

    Everything random in a step follows from the seed that it is given.
    """

    def __init__(
        self,
        model: CompleteModel,
        objective: Objective,
        settings: FitSettings,
        train: Batches,
        *,
        group: Group,
        tell: Tell,
        teaching: Teaching | None = None,
        after_step: AfterStep | None = None,
    ) -> None:
        self.model = model
        self.teaching = teaching
        self.after_step = after_step
        self.network = model.network
        self.objective = objective
        self.settings = settings
        self.device = train.device
        self.group = group
        self.precision = choose_precision(settings.precision, self.device)
        self.parts = Parts(_most_at_once(settings), self.device, tell)
        self.optimizer = make_optimizer(settings.optimizer, self.network, l1=settings.l1)
        self.mean = WeightMean(self.network, settings.ema) if settings.ema else None
        self.augmentation = (
            Augmentation(settings.augment, train.samples.inputs[0].shape[1:]) if settings.augment else None
        )
        self.compilation = compilation(
            self.network,
            self.device,
            is_asked=settings.compile,
            in_one_piece=group.count == 1 and _most_at_once(settings) > settings.batch_size,
        )
        self.forward = self._wrapped(train)
        self._buffers = list(self.network.buffers())
        self._buffers_before = [buffer.clone() for buffer in self._buffers]

    def learn(self, batch: Batch, learning_rate: float, seed: int, done: float = 0.0) -> Learnt:
        """Forward, backward, and one step of the optimizer; nothing waits for the device.

        With it, the share `done` of the training's steps is done.

        Where it has no room, the micro-batch is halved and the step begins again; among several processes, which
        cannot begin again each on its own, torch's own error goes on.
        """
        gradients = partial(self._gradients, batch, seed)
        if self.group.count == 1:
            loss = self._fitting(batch, gradients)
        else:
            loss = self.group.sum(gradients(self.parts.slices(len(batch.targets))))
        limit = self.settings.clip_norm
        length = clip_gradients(self.network.parameters(), limit) if limit else None
        self.optimizer.step(learning_rate)
        if self.after_step:
            self.after_step(done)
        if self.mean:
            self.mean.update()
        return Learnt(loss, length)

    def rehearse(self, batch: Batch, seed: int) -> None:
        """Find the micro-batch for which every process has room; nothing else changes. For several processes alone."""
        self._fitting(batch, partial(self._gradients, batch, seed, rehearses=True))
        self._undo()
        sizes = torch.zeros(self.group.count, dtype=torch.int64, device=self.device)
        sizes[self.group.rank] = self.parts.size
        self.parts.size = int(self.group.sum(sizes).min())

    @torch.no_grad()
    def share_buffers(self) -> None:
        """Give every process the leader's running figures, for each has seen other samples."""
        if self.group.count > 1:
            buffers = dict(self.network.named_buffers())
            for name, leaders in self.group.tensors(buffers).items():
                buffers[name].copy_(leaders)

    def outputs(self, inputs: tuple[Tensor, ...], network: nn.Module | None = None) -> Tensor:
        """The raw outputs [B, ...] for raw inputs, float32, computed in the chosen precision."""
        with autocast(self.precision, self.device):
            found: Tensor = (self.network if network is None else network)(*self.model.preprocess(*inputs))
        return found.float()

    def totals(self, batch: Batch) -> Tensor:
        """The objective's sums over a batch of the validation split, in parts that fit."""
        return self.parts.fitting(len(batch.targets), partial(self._totals, batch), lambda: None)

    def _wrapped(self, train: Batches) -> nn.Module:
        network = self.compilation.compiled(self.network)
        if self.group.count == 1:
            return network
        return self.group.wrap(network, self.model.preprocess(*train.example()))

    def _fitting(self, batch: Batch, gradients: Callable[[Slices], Tensor]) -> Tensor:
        if self._buffers:
            torch._foreach_copy_(self._buffers_before, self._buffers)
        return self.parts.fitting(len(batch.targets), gradients, self._undo)

    def _undo(self) -> None:
        """Drop what a step that broke off has left: gradients, and batch normalization's running figures."""
        self.network.zero_grad(set_to_none=True)
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._buffers_before)

    def _gradients(self, batch: Batch, seed: int, slices: Slices, *, rehearses: bool = False) -> Tensor:
        """Leave the gradients at the parameters; this process's share of the batch's mean loss, on the device."""
        seed_generators(seed, self.device)
        lesson = self._lesson(batch)
        parts = (lesson.part(rows) for rows in slices) if len(slices) > 1 else (lesson,)
        # A batch that was to be computed in one piece, and found no room, leaves its recorded kernels.
        is_plain = rehearses or (self.compilation.records and len(slices) > 1)
        losses: list[Tensor] = []
        for part in parts:
            # The last backward of a batch averages what all of them have added up.
            alone = rehearses or len(losses) == len(slices) - 1
            with nullcontext() if alone else self.group.unsynced(self.forward):
                outputs = self.outputs(part.inputs, self.network if is_plain else self.forward)
                # Gradients are averaged over the processes, and are to be added up.
                weight = batch.share * self.group.count * len(part.targets) / len(batch.targets)
                loss = self._loss(outputs, part)
                loss = loss if weight == 1 else loss * weight
                loss.backward()  # type: ignore[no-untyped-call]
                losses.append(loss.detach())
        whole = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        return whole if self.group.count == 1 else whole / self.group.count

    def _lesson(self, batch: Batch) -> _Lesson:
        if self.augmentation is None:
            return _Lesson(batch.inputs, batch.targets, batch.guides)
        images, mix = self.augmentation(batch.inputs[0])
        inputs = (images, *batch.inputs[1:])
        if mix is None:
            return _Lesson(inputs, batch.targets, batch.guides)
        return _Lesson(inputs, batch.targets, batch.guides, batch.targets[mix.partners], mix.share)

    def _loss(self, outputs: Tensor, lesson: _Lesson) -> Tensor:
        if self.teaching is None:
            return self._own_loss(outputs, lesson)
        taught = self.teaching.loss(outputs, lesson.targets, lesson.inputs, lesson.guides)
        hard = self.teaching.hard
        return taught + hard * self._own_loss(outputs, lesson) if hard else taught

    def _own_loss(self, outputs: Tensor, lesson: _Lesson) -> Tensor:
        loss = self.objective.loss(outputs, lesson.targets)
        if lesson.others is None or lesson.kept is None:
            return loss
        return torch.lerp(self.objective.loss(outputs, lesson.others), loss, lesson.kept)

    def _totals(self, batch: Batch, slices: Slices) -> Tensor:
        found = [
            self.objective.totals(self.outputs(tuple(each[part] for each in batch.inputs)), batch.targets[part])
            for part in slices
        ]
        return torch.stack(found).sum(0) if batch.share else torch.zeros_like(found[0])


def _most_at_once(settings: FitSettings) -> int:
    """Samples that are computed at once, where there is room."""
    if settings.micro_batch and settings.micro_batch < settings.batch_size:
        return settings.micro_batch
    # The last batch of an epoch may hold one sample more.
    return settings.batch_size + 1
