"""Any model over any number of rows: the one way in which answers are collected."""

from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.errors import DataError, StepFailed

Arrays: TypeAlias = tuple[npt.NDArray[Any], ...]
Model: TypeAlias = Callable[[Arrays], npt.NDArray[Any]]
"""One batch of every input [B, ...] in, answers [B, ...] out, on the host."""
Keep: TypeAlias = Callable[[npt.NDArray[Any], slice], npt.NDArray[Any]]
"""Answers [B, ...] and their rows in, what is kept of them out, [B, ...]."""

BATCH_BYTES = 64 << 20
"""Answers of one batch: a language model's logits can be a thousand times as large as its input."""
BATCH_PLACES = 1 << 14
"""Answers of one batch where a row has several, as a text has at every place: what is computed on the way to an answer
grows with their number."""


def answer(
    model: Model, inputs: Arrays, batch: int, into: Path | None = None, keep: Keep | None = None
) -> npt.NDArray[Any]:
    """The answers to all rows of `inputs` (arrays or memory maps [N, ...]), in order: [N, ...]; or what `keep` keeps.

    At most `batch` rows are answered at once, fewer where their answers are large. With `into` the result is written
    to that `.npy` file and comes back as its memory map, so that memory holds one batch. Raises DataError without rows;
    StepFailed when the model answers with another number of rows or with values that are not finite.
    """
    size, found = rows_at_once(model, inputs, batch), None
    for rows, answers in in_batches(model, inputs, size):
        kept = answers if keep is None else keep(answers, rows)
        if found is None:
            found = _room(kept, len(inputs[0]), into)
        found[rows] = kept
    assert found is not None
    if isinstance(found, np.memmap):
        found.flush()
    return found


def in_batches(model: Model, inputs: Arrays, size: int) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """The answers to all rows of `inputs` [N, ...], `size` rows at a time, each batch with its rows.

    Raises StepFailed as `answer` does.
    """
    for start in range(0, len(inputs[0]), size):
        rows = slice(start, min(start + size, len(inputs[0])))
        yield rows, _checked(model, inputs, rows)


def rows_at_once(model: Model, inputs: Arrays, batch: int) -> int:
    """How many rows are answered at once, at most `batch`; one row is answered to see how large an answer is.

    Raises DataError without rows.
    """
    one = _first(model, inputs)
    places = prod(one.shape[1:-1])
    return max(1, min(batch, BATCH_BYTES // max(1, one.nbytes), BATCH_PLACES // max(1, places)))


def rows_within(model: Model, inputs: Arrays, numbers: int) -> int:
    """How many rows' answers hold at most so many numbers, at least 1; one row is answered to see how many it has.

    Raises DataError without rows.
    """
    return max(1, numbers // max(1, _first(model, inputs).size))


def first_rows(inputs: Arrays, count: int) -> Arrays:
    """`count` rows of every input [N, ...] in order, from the beginning again after the last; N is 1 or more."""
    order = np.arange(count) % len(inputs[0])
    return tuple(np.ascontiguousarray(each[order]) for each in inputs)


def _first(model: Model, inputs: Arrays) -> npt.NDArray[Any]:
    if len(inputs[0]) == 0:
        raise DataError("there are no rows to answer", next="give the split a larger share, or choose another split")
    return model(first_rows(inputs, 1))


def _room(first: npt.NDArray[Any], rows: int, into: Path | None) -> npt.NDArray[Any]:
    shape = (rows, *first.shape[1:])
    if into is None:
        return np.empty(shape, first.dtype)
    room: npt.NDArray[Any] = np.lib.format.open_memmap(into, mode="w+", dtype=first.dtype, shape=shape)
    return room


def _checked(model: Model, inputs: Arrays, rows: slice) -> npt.NDArray[Any]:
    answers = model(tuple(np.ascontiguousarray(each[rows]) for each in inputs))
    count = rows.stop - rows.start
    if answers.shape[:1] != (count,):
        raise StepFailed(
            f"the model answered {count} rows with an array of shape {list(answers.shape)}",
            next="the first dimension of its answer must be the batch",
        )
    if not np.isfinite(answers).all():
        bad = rows.start + int(np.argwhere(~np.isfinite(answers))[0, 0])
        raise StepFailed(
            f"the model's answer to row {bad} is not a finite number",
            next="look at the step that made this model: its training, or the ranges of its quantization",
        )
    return answers
