"""A teacher that is a graph or a server: it takes arrays on the host, and gives finished answers."""

# B batch, C classes, T tokens, V vocabulary

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlctl.compression.distillation.teacher import Inputs
from mlctl.data.description import DataDescription
from mlctl.runtime.answers import Model
from mlctl.tasks.squared_error import Unit
from mlctl.tasks.task import Ending

Floats: TypeAlias = npt.NDArray[np.float32]
Unfinish: TypeAlias = Callable[[npt.NDArray[Any]], Floats]
"""Finished answers [B, ...] in, raw outputs out."""


class HostTeacher:
    """Gives raw outputs where `model` gives answers.

    Augmented images that were blended are no whole numbers any more: for inputs that are stored as such they are
    rounded to the nearest.
    """

    def __init__(self, model: Model, dtypes: Sequence[str], unfinish: Unfinish, identity: str) -> None:
        """`dtypes` are those in which the data's inputs are stored."""
        self.identity = identity
        self._model = model
        self._dtypes = tuple(dtypes)
        self._unfinish = unfinish

    def __call__(self, inputs: Inputs, /) -> Tensor:
        pairs = zip(inputs, self._dtypes, strict=True)
        rows = tuple(_stored(each.detach().cpu().numpy(), dtype) for each, dtype in pairs)
        return torch.from_numpy(self._unfinish(self._model(rows))).to(inputs[0].device)


def unfinished(description: DataDescription, ending: Ending | None) -> Unfinish:
    """What undoes the last part of a task's answers; `ending` is what the answers lack to be whole, if anything.

    Probabilities become their logarithms, of which a softmax at any temperature makes what the logits would give; those
    below the smallest normal float32 are taken for it. Numbers go back to the unit that the target is scaled to.
    """
    if description.vocabulary or ending == "softmax":
        return _as_they_are
    return _logarithms if description.labels else _in_deviations(Unit.of(description.target_scaling))


def _as_they_are(answers: npt.NDArray[Any]) -> Floats:
    return answers.astype(np.float32)


def _logarithms(answers: npt.NDArray[Any]) -> Floats:
    return np.log(np.maximum(answers.astype(np.float32), np.finfo(np.float32).tiny))


def _in_deviations(unit: Unit) -> Unfinish:
    def scaled(answers: npt.NDArray[Any]) -> Floats:
        numbers = (answers.astype(np.float64).reshape(-1, 1) - unit.mean) / unit.deviation
        return numbers.astype(np.float32)

    return scaled


def _stored(rows: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    is_blended = np.issubdtype(rows.dtype, np.floating) and np.issubdtype(np.dtype(dtype), np.integer)
    return np.rint(rows).astype(dtype) if is_blended else rows
