"""What units are worth by what the loss would lose without them."""

# U units of a group

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from mlctl.compression.pruning.dependencies import Dependencies
from mlctl.compression.pruning.unit_weights import AxisSums, Scores, UnitWeights
from mlctl.models.complete import CompleteModel
from mlctl.tasks.objective import Objective
from mlctl.training.batches import Batch
from mlctl.training.evaluation_mode import evaluation_mode

Gradients: TypeAlias = Literal["taylor", "fisher"]

OF_A_BATCH: dict[Gradients, Callable[[Scores], Scores]] = {
    "taylor": np.abs,
    "fisher": lambda change: change**2 / 2,
}
"""From what the loss would change to first order, [U], to what counts of it."""


def loss_changes(
    kind: Gradients, model: CompleteModel, found: Dependencies, batches: Iterable[Batch], objective: Objective
) -> dict[str, Scores]:
    """The mean over the batches, each by its samples, of a function of each unit's first-order change of the loss.

    The change is the sum of weight times gradient over all weights of the unit (Molchanov et al. 2019). Its size is
    `taylor`; half of its square is `fisher` (Theis et al. 2018, with the mean gradient of a batch where they have a
    sample's). Both are of the loss, and compare between groups as they are: weights that write a unit's signal and
    weights that read it count once each, in every group.

    [U] for each group. Gradients are those of the evaluation mode in float32; no weight, buffer or `.grad` changes, and
    memory is that of one batch. The model's mode is as before.
    """
    weights = UnitWeights(model.network, found)
    names = list(dict.fromkeys(place.tensor for place in weights.all_places))
    tensors = [weights.parameters[name] for name in names]
    totals = {group.name: np.zeros(group.count) for group in found.groups}
    samples = 0
    with _differentiable(model, tensors):
        for batch in batches:
            outputs = model.raw_outputs(*batch.inputs).float()
            loss = objective.loss(outputs, batch.targets)
            gradients = torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True)
            for name, change in _changes(weights, dict(zip(names, gradients, strict=True))).items():
                totals[name] += OF_A_BATCH[kind](change) * len(batch.targets)
            samples += len(batch.targets)
    return {name: total / max(samples, 1) for name, total in totals.items()}


def _changes(weights: UnitWeights, gradients: Mapping[str, Tensor]) -> dict[str, Scores]:
    """What taking each unit out would add to the loss, to first order and but for its sign: [U] for each group."""
    sums = AxisSums(lambda name: weights.parameters[name].detach() * gradients[name], weights.all_places)
    return {name: np.sum([sums.by_unit(place) for place in places], axis=0) for name, places in weights.places.items()}


@contextmanager
def _differentiable(model: CompleteModel, tensors: list[nn.Parameter]) -> Iterator[None]:
    """In evaluation mode, with gradients of `tensors` whatever is frozen or switched off outside."""
    frozen = [each for each in tensors if not each.requires_grad]
    # cuDNN's recurrent layers have no backward in evaluation mode.
    has_recurrence = any(isinstance(part, nn.RNNBase) for part in model.modules())
    kernels = torch.backends.cudnn.flags(enabled=False) if has_recurrence else nullcontext()
    try:
        for each in frozen:
            each.requires_grad_(True)
        with evaluation_mode(model), torch.enable_grad(), kernels:
            yield
    finally:
        for each in frozen:
            each.requires_grad_(False)
