"""Rows of several requests as one batch, and its outputs as their answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlctl.errors import StepFailed
from mlctl.runtime.answers import Arrays
from mlctl.serving.batching.layout import Layout
from mlctl.serving.batching.waiting import Waiting


def join(batch: Sequence[Waiting], layout: Layout) -> Arrays:
    """The inputs [n, ...] of all rows in order; those of one request alone as they are, not copied.

    Shorter rows of a ragged batch are filled up with the layout's values to the length of the longest.
    """
    if len(batch) == 1:
        return batch[0].inputs
    columns = zip(*[each.inputs for each in batch], strict=True)
    lengths = {each.length for each in batch}
    if len(lengths) == 1:
        return tuple([np.concatenate(column) for column in columns])
    length = max(lengths)
    return tuple(
        _padded(column, length, layout.pads[number]) if number in layout.ragged_inputs else np.concatenate(column)
        for number, column in enumerate(columns)
    )


def split(outputs: Arrays, batch: Sequence[Waiting], layout: Layout) -> list[Arrays]:
    """Every request's own rows of a batch's outputs, without what was computed for padding.

    Raises StepFailed for outputs that do not have the rows of the batch; those of one request alone are left as they
    are.
    """
    if len(batch) == 1:
        return [outputs]
    rows = sum([each.rows for each in batch])
    if any([each.shape[:1] != (rows,) for each in outputs]):
        shapes = ", ".join(str(list(each.shape)) for each in outputs)
        raise StepFailed(f"the model answers {rows} rows with {shapes}")
    length = max([each.length for each in batch])
    found: list[Arrays] = []
    start = 0
    for each in batch:
        end = start + each.rows
        own = tuple([output[start:end] for output in outputs])
        found.append(own if each.length == length else _cut(own, each.length, layout))
        start = end
    return found


def _padded(column: Sequence[npt.NDArray[Any]], length: int, pad: int) -> npt.NDArray[Any]:
    first = column[0]
    rows = sum(len(each) for each in column)
    filling: Any = "" if first.dtype == object else pad
    padded = np.full((rows, length, *first.shape[2:]), filling, first.dtype)
    start = 0
    for each in column:
        padded[start : start + len(each), : each.shape[1]] = each
        start += len(each)
    return padded


def _cut(outputs: Arrays, length: int, layout: Layout) -> Arrays:
    return tuple(
        np.ascontiguousarray(each[:, :length]) if number in layout.ragged_outputs else each
        for number, each in enumerate(outputs)
    )
