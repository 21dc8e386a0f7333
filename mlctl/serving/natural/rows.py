"""Rows of named columns in place of tensors, read as `prepare` reads tables."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from math import prod
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from mlctl.data.numbers import FLOAT32_LIMIT, SHOWN, reason_of_number
from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port
from mlctl.serving.refusals import Malformed
from mlctl.serving.signature import Signature

LONGEST_NUMBER: Final = 400
"""Characters of a number that is sent as text: more than any that float64 tells from its neighbours."""

_SAFE: Final = 2.0**127
_LARGEST_TRIED: Final = 2.0**129


class ColumnRows:
    """Rows for a model all of whose inputs are made of named columns.

    Numbers are rounded from float64 to float32, as those of tables are. A model whose columns held nothing but whole
    numbers from 0 to 255 when it learnt takes uint8, and no other numbers. A text is taken where `prepare` takes it for
    a number in a CSV file, since rows of forms and of CSV are texts; true, false and null are no numbers. What a model
    does not read, such as the label, may be sent along: no column that it does read can be missing.
    """

    def __init__(self, inputs: Sequence[tuple[Port, tuple[str, ...]]]) -> None:
        self._inputs = inputs
        self._columns = tuple(dict.fromkeys(name for _, columns in inputs for name in columns))

    @classmethod
    def of(cls, signature: Signature) -> Self | None:
        """Those of the model; None for one that is not made of columns of numbers."""
        told = signature.meaning.inputs
        if not signature.inputs or len(told) != len(signature.inputs):
            return None
        inputs = [(port, each.columns) for port, each in zip(signature.inputs, told, strict=True)]
        return cls(inputs) if all(_is_filled(port, columns) for port, columns in inputs) else None

    def inputs(self, rows: Sequence[Mapping[str, Any]]) -> Arrays:
        """The rows' numbers, float32 or uint8 [n, ...] for every input.

        Raises Malformed, naming the row (from 0) and the column, for what is missing or no number that the dtype holds,
        and where there are no rows.
        """
        if not rows:
            raise Malformed("there are no rows")
        for place, row in enumerate(rows):
            self._check(row, place)
        return tuple(_filled(rows, port, columns) for port, columns in self._inputs)

    def _check(self, row: Mapping[str, Any], place: int) -> None:
        if not isinstance(row, Mapping):
            raise Malformed(f"row {place} is no object of columns")
        for name in self._columns:
            if name not in row:
                raise Malformed(f"row {place}: column {name!r} is missing{_guess(name, row, self._columns)}")
            value = row[name]
            # Almost always true, and quick: NaN is not above the lower bound either.
            if type(value) in (float, int) and -_SAFE < value < _SAFE:
                continue
            if reason := _reason(value):
                raise Malformed(f"row {place}: column {name!r} {reason}")


def _is_filled(port: Port, columns: tuple[str, ...]) -> bool:
    sizes = [size for size in port.shape[1:] if size is not None]
    return (
        bool(columns)
        and port.dtype in ("float32", "uint8")
        and len(sizes) == len(port.shape) - 1
        and prod(sizes) == len(columns)
    )


def _filled(rows: Sequence[Mapping[str, Any]], port: Port, columns: tuple[str, ...]) -> npt.NDArray[Any]:
    numbers = np.array([[float(row[name]) for name in columns] for row in rows], np.float64)
    if port.dtype == "uint8":
        _require_bytes(numbers, columns)
    return numbers.astype(port.dtype).reshape(len(rows), *port.shape[1:])


def _require_bytes(numbers: npt.NDArray[np.float64], columns: tuple[str, ...]) -> None:
    others = np.argwhere(~((numbers >= 0) & (numbers <= 255) & (numbers == np.floor(numbers))))
    if len(others):
        place, column = others[0].tolist()
        raise Malformed(
            f"row {place}: column {columns[column]!r} holds {numbers[place, column]:.12g}; the model learnt whole "
            "numbers from 0 to 255, and takes no others"
        )


def _reason(value: Any) -> str:
    """Why a value is no number, to follow on the column's name; empty for a text that is one."""
    if value is None:
        return "is empty"
    if isinstance(value, bool):
        return f"holds {str(value).lower()}, not a number"
    if isinstance(value, str):
        return reason_of_number(value) if len(value) <= LONGEST_NUMBER else f"holds {value[:SHOWN]!r}…, not a number"
    if isinstance(value, float | int):
        return _reason_of_size(value)
    return f"holds {'a list' if isinstance(value, list) else 'an object'}, not a number"


def _reason_of_size(value: float) -> str:
    if value != value:
        return "holds NaN, not a finite number"
    # A whole number of JSON may be larger than a float can be, or become too large when it is rounded to one.
    is_small = abs(value) < _LARGEST_TRIED and abs(float(value)) < FLOAT32_LIMIT
    return "" if is_small else "holds more than float32 can hold"


def _guess(name: str, row: Mapping[str, Any], known: Sequence[str]) -> str:
    """What may have been meant, of what the row has and the model does not read."""
    others = [
        each
        for each in list(row)[: len(known) + SHOWN]
        if isinstance(each, str) and each not in known and len(each) <= 2 * len(name)
    ]
    close = get_close_matches(name, others, n=1)
    return f"; did you mean it by {close[0]!r}?" if close else ""
