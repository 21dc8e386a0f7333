"""Any model over any number of rows: the one way in which answers are collected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.errors import DataError, StepFailed

Arrays: TypeAlias = tuple[npt.NDArray[Any], ...]
Model: TypeAlias = Callable[[Arrays], npt.NDArray[Any]]
"""One batch of every input [B, ...] in, answers [B, ...] out, on the host."""


def answer(model: Model, inputs: Arrays, batch: int, into: Path | None = None) -> npt.NDArray[Any]:
    """The answers to all rows of `inputs` (arrays or memory maps [N, ...]), batch by batch, in order: [N, ...].

    With `into` they are written to that `.npy` file and come back as its memory map, so that memory holds one batch.
    Raises DataError without rows; StepFailed when the model answers with another number of rows or with values
    that are not finite.
    """
    rows = len(inputs[0])
    if rows == 0:
        raise DataError("there are no rows to answer", next="give the split a larger share, or choose another split")
    first = _checked(model, inputs, 0, min(batch, rows))
    answers = _room(first, rows, into)
    answers[: len(first)] = first
    for start in range(len(first), rows, batch):
        stop = min(start + batch, rows)
        answers[start:stop] = _checked(model, inputs, start, stop)
    if isinstance(answers, np.memmap):
        answers.flush()
    return answers


def first_rows(inputs: Arrays, count: int) -> Arrays:
    """`count` rows of every input [N, ...] in order, from the beginning again after the last; N is 1 or more."""
    order = np.arange(count) % len(inputs[0])
    return tuple(np.ascontiguousarray(each[order]) for each in inputs)


def _room(first: npt.NDArray[Any], rows: int, into: Path | None) -> npt.NDArray[Any]:
    shape = (rows, *first.shape[1:])
    if into is None:
        return np.empty(shape, first.dtype)
    room: npt.NDArray[Any] = np.lib.format.open_memmap(into, mode="w+", dtype=first.dtype, shape=shape)
    return room


def _checked(model: Model, inputs: Arrays, start: int, stop: int) -> npt.NDArray[Any]:
    answers = model(tuple(np.ascontiguousarray(each[start:stop]) for each in inputs))
    if answers.shape[:1] != (stop - start,):
        raise StepFailed(
            f"the model answered {stop - start} rows with an array of shape {list(answers.shape)}",
            next="the first dimension of its answer must be the batch",
        )
    if not np.isfinite(answers).all():
        bad = start + int(np.argwhere(~np.isfinite(answers))[0, 0])
        raise StepFailed(
            f"the model's answer to row {bad} is not a finite number",
            next="look at the step that made this model: its training, or the ranges of its quantization",
        )
    return answers
