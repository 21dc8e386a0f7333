"""What makes a unit worth keeping."""

# U units of a group

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from mlctl.compression.pruning.dependencies import Dependencies
from mlctl.compression.pruning.importance_activations import activation_sizes
from mlctl.compression.pruning.importance_gradients import loss_changes
from mlctl.compression.pruning.importance_weights import batch_norm_scale, lamp, weight_norms
from mlctl.compression.pruning.unit_weights import Scores
from mlctl.errors import StepFailed
from mlctl.models.complete import CompleteModel
from mlctl.tasks.objective import Objective
from mlctl.training.batches import Batch

Kind: TypeAlias = Literal["l1", "l2", "batch-norm", "taylor", "fisher", "lamp", "activation"]

LOOKS_AT_ROWS: frozenset[Kind] = frozenset({"taylor", "fisher", "activation"})
"""The kinds that need batches of the train split; the others look at weights alone."""


@dataclass(frozen=True)
class Importance:
    """What every unit is worth."""

    scores: Mapping[str, Scores]
    """Float64 [U], larger for what is worth more, comparable over all groups, by a group's name."""
    unscored: tuple[str, ...] = ()
    """Groups of which the kind of importance says nothing, and which therefore stay whole."""


@dataclass(frozen=True)
class _Looked:
    """What an importance can be taken of."""

    model: CompleteModel
    found: Dependencies
    batches: Iterable[Batch]
    objective: Objective


def importance(
    kind: Kind,
    model: CompleteModel,
    found: Dependencies,
    objective: Objective,
    batches: Iterable[Batch] = (),
) -> Importance:
    """What every unit of `model.network` is worth; nothing in the model changes.

    `batches` of the train split, on the model's device, are read once, and only by what `LOOKS_AT_ROWS`. The same
    scores for the same batches, on the same device with as many threads.

    Raises StepFailed where `kind` has nothing to look at, and where a score is not a number.
    """
    scores = KINDS[kind](_Looked(model, found, batches, objective)) if found.groups else {}
    for name, each in scores.items():
        if not np.isfinite(each).all():
            raise StepFailed(
                f"by {kind}, some unit of {name} is worth something that is not a number",
                next="train the network again with a lower learning rate, or choose another `importance`",
            )
    return Importance(scores, tuple(group.name for group in found.groups if group.name not in scores))


def _norms(looked: _Looked, power: int) -> dict[str, Scores]:
    return weight_norms(looked.model.network, looked.found, power)


def _losses(looked: _Looked, kind: Literal["taylor", "fisher"]) -> dict[str, Scores]:
    return loss_changes(kind, looked.model, looked.found, looked.batches, looked.objective)


KINDS: dict[Kind, Callable[[_Looked], dict[str, Scores]]] = {
    "l1": partial(_norms, power=1),
    "l2": partial(_norms, power=2),
    "batch-norm": lambda looked: batch_norm_scale(looked.model.network, looked.found),
    "taylor": partial(_losses, kind="taylor"),
    "fisher": partial(_losses, kind="fisher"),
    "lamp": lambda looked: lamp(looked.model.network, looked.found),
    "activation": lambda looked: activation_sizes(looked.model, looked.found, looked.batches),
}
"""The one table of kinds."""
