"""Whether a graph answers as the model it was made from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.errors import DataError
from mlctl.runtime.answers import Arrays, Model, first_rows, rows_within
from mlctl.runtime.session import OnnxSession

Floats: TypeAlias = npt.NDArray[np.float64]
Decision: TypeAlias = Literal["argmax", "none"]

MOST_SAMPLES = 512
"""Rows compared at each batch size: enough to meet a rare path, few enough to run one by one."""
MOST_NUMBERS = 1 << 24
"""Numbers compared at each batch size, where one row has so many that fewer rows will do: a second's work."""
_CHUNK_NUMBERS = 1 << 21
"""Numbers compared at once: their copies in float64 take some hundred MB."""


@dataclass(frozen=True)
class BatchParity:
    """The differences over `samples` rows, answered `batch` at a time.

    `max_absolute` is in the answer's own unit; `max_relative` is a share of the reference's answer.
    `max_difference` is the largest over all numbers of the smaller of the two: a large answer may be a little off,
    and so may one near zero. `agreement` is the share of decisions that are the same.
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
    """Compare both on up to 512 rows of `inputs` [N, ...], in every batch size; on fewer where answers are large, but
    on as many as the largest size.

    A size larger than N takes rows from the beginning again; rows that do not fill a last batch come as a smaller
    one. With `argmax` every largest number along the last axis is a decision, with `none` every row is one, and it is
    the same where the row's numbers are finite on both sides or equal. Answers of another shape differ infinitely.
    Memory holds one batch of both. Raises DataError without rows.
    """
    if len(inputs[0]) == 0:
        raise DataError("there are no rows to compare", next="give the split a larger share, or choose another split")
    most = max(*batches, min(MOST_SAMPLES, rows_within(reference, inputs, MOST_NUMBERS)))
    measured = tuple(
        _at(size, reference, session, first_rows(inputs, max(size, min(len(inputs[0]), most))), decision)
        for size in batches
    )
    return Parity(measured, max(each.max_difference for each in measured))


def _at(size: int, reference: Model, session: OnnxSession, rows: Arrays, decision: Decision) -> BatchParity:
    """All of `rows`, `size` at a time."""
    count = len(rows[0])
    found = _Comparison(decision)
    for start in range(0, count, size):
        batch = tuple(each[start : start + size] for each in rows)
        expected, given = np.asarray(reference(batch)), np.asarray(session(batch))
        if expected.shape != given.shape:
            return BatchParity(size, count, float("inf"), float("inf"), float("inf"), 0.0)
        found.add(expected, given)
    return BatchParity(size, count, *found.largest, found.agreement)


class _Comparison:
    """What batches of answers have differed by so far."""

    def __init__(self, decision: Decision) -> None:
        self._largest = np.zeros(3)
        self._agreed = Agreement(decision)

    def add(self, expected: npt.NDArray[Any], given: npt.NDArray[Any]) -> None:
        """A batch of both, [B, ...] of one shape."""
        self._agreed.add(expected, given)
        for chosen in _chunks(expected):
            absolute, relative = differences(
                np.asarray(expected[chosen], np.float64), np.asarray(given[chosen], np.float64)
            )
            found = [each.max(initial=0) for each in (absolute, relative, np.minimum(absolute, relative))]
            np.maximum(self._largest, found, out=self._largest)

    @property
    def largest(self) -> tuple[float, float, float]:
        """The largest absolute and relative differences, and the largest of the smaller of the two."""
        absolute, relative, smaller = (float(each) for each in self._largest)
        return absolute, relative, smaller

    @property
    def agreement(self) -> float:
        """The share of decisions that are the same."""
        return self._agreed.share


class Agreement:
    """The share of equal decisions over batches of answers; see `parity`."""

    def __init__(self, decision: Decision) -> None:
        self._decision = decision
        self._equal = self._all = 0

    def add(self, expected: npt.NDArray[Any], given: npt.NDArray[Any]) -> None:
        """A batch of both, [B, ...] of one shape."""
        same = _same_decisions(expected, given, self._decision)
        self._equal += int(np.count_nonzero(same))
        self._all += same.size

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self._equal / self._all


def _same_decisions(expected: npt.NDArray[Any], given: npt.NDArray[Any], decision: Decision) -> npt.NDArray[np.bool_]:
    if decision == "argmax":
        return np.asarray(expected.argmax(axis=-1) == given.argmax(axis=-1))
    fits = (np.isfinite(expected) & np.isfinite(given)) | (expected == given) | (np.isnan(expected) & np.isnan(given))
    return np.asarray(fits.reshape(len(expected), -1).all(axis=1))


def _chunks(answers: npt.NDArray[Any]) -> Iterator[slice]:
    """Rows of `answers` in groups of at most `_CHUNK_NUMBERS` numbers, or one by one."""
    size = max(1, _CHUNK_NUMBERS // max(1, answers[:1].size))
    return (slice(start, start + size) for start in range(0, len(answers), size))


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
