"""Whether a graph answers as the model it was made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.errors import DataError
from mlctl.runtime.answers import Arrays, Model, first_rows
from mlctl.runtime.session import OnnxSession

Floats: TypeAlias = npt.NDArray[np.float64]
Decision: TypeAlias = Literal["argmax", "none"]

MOST_SAMPLES = 512
"""Rows compared at each batch size: enough to meet a rare path, few enough to run one by one."""


@dataclass(frozen=True)
class BatchParity:
    """The differences over `samples` rows, answered `batch` at a time.

    `max_absolute` is in the answer's own unit; `max_relative` is a share of the reference's answer.
    `max_difference` is the largest over all numbers of the smaller of the two: a large answer may be a little off,
    and so may one near zero. `agreement` is the share of rows with the same decision.
    """

    batch: int
    samples: int
    max_absolute: float
    max_relative: float
    max_difference: float
    agreement: float


@dataclass(frozen=True)
class Parity:
    """The comparison at every batch size; `worst` is the largest `max_difference` among them."""

    batches: tuple[BatchParity, ...]
    worst: float


def parity(
    reference: Model,
    session: OnnxSession,
    inputs: Arrays,
    *,
    decision: Decision,
    batches: Sequence[int] = (1, 2, 17),
) -> Parity:
    """Compare both on up to 512 rows of `inputs` [N, ...], in every batch size.

    A size larger than N takes rows from the beginning again; rows that do not fill a last batch come as a smaller
    one. With `argmax` a decision is the largest of the last axis, with `none` every row agrees whose numbers are
    finite on both sides or equal. Answers of another shape differ infinitely. Raises DataError without rows.
    """
    if len(inputs[0]) == 0:
        raise DataError("there are no rows to compare", next="give the split a larger share, or choose another split")
    measured = tuple(_at(size, reference, session, inputs, decision) for size in batches)
    return Parity(measured, max(each.max_difference for each in measured))


def _at(size: int, reference: Model, session: OnnxSession, inputs: Arrays, decision: Decision) -> BatchParity:
    count = max(size, min(len(inputs[0]), MOST_SAMPLES))
    rows = first_rows(inputs, count)
    starts = range(0, count, size)
    pairs = [_answers(reference, session, tuple(each[start : start + size] for each in rows)) for start in starts]
    if any(expected.shape != given.shape for expected, given in pairs):
        return BatchParity(size, count, float("inf"), float("inf"), float("inf"), 0.0)
    return _compared(size, np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]), decision)


def _answers(reference: Model, session: OnnxSession, rows: Arrays) -> tuple[Floats, Floats]:
    return np.asarray(reference(rows), np.float64), np.asarray(session(rows), np.float64)


def _compared(size: int, expected: Floats, given: Floats, decision: Decision) -> BatchParity:
    absolute, relative = differences(expected, given)
    return BatchParity(
        batch=size,
        samples=len(expected),
        max_absolute=float(absolute.max(initial=0)),
        max_relative=float(relative.max(initial=0)),
        max_difference=float(np.minimum(absolute, relative).max(initial=0)),
        agreement=agreement(expected, given, decision),
    )


def differences(expected: Floats, given: Floats) -> tuple[Floats, Floats]:
    """Absolute and relative differences of every number; relative to `expected`, and 0 where both are equal.

    A number that is not finite differs infinitely from all but itself.
    """
    same = (expected == given) | (np.isnan(expected) & np.isnan(given))
    finite = np.isfinite(expected) & np.isfinite(given)
    absolute = np.where(same, 0.0, np.inf)
    np.subtract(expected, given, out=absolute, where=finite)
    absolute = np.abs(absolute)
    relative = np.where(same, 0.0, np.inf)
    np.divide(absolute, np.abs(expected), out=relative, where=finite & (expected != 0))
    return absolute, relative


def agreement(expected: Floats, given: Floats, decision: Decision) -> float:
    """The share of rows, [N, ...] each, with the same decision; see `parity`."""
    if decision == "argmax":
        same = expected.argmax(axis=-1) == given.argmax(axis=-1)
    else:
        same = np.isfinite(differences(expected, given)[0])
    return float(same.reshape(len(expected), -1).all(axis=1).mean())
