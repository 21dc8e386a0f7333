"""Rows to try a model with: out of rows that are given, or made up from what its ports say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port
from mlctl.serving.batching.layout import Layout, is_mask

_VARIETIES: Final = (97, 3, 1)
"""How many different whole numbers, from 0 on: a vocabulary may be small, and refuses what lies beyond it."""
_SIZES: Final = (224, 32, 8, 1)
"""Of axes that are open beside batch and length, such as an image's height and width."""
LENGTHS: Final = (8, 32, 128, 512)
"""Of rows, such as tokens of a text."""
_STEP: Final = 7919
"""A prime: neighbouring numbers of a row, and equal places of neighbouring rows, differ."""


@dataclass(frozen=True)
class MadeRows:
    """Rows for the inputs of a graph, all different; the same ones whenever they are asked for."""

    inputs: tuple[Port, ...]
    layout: Layout
    variety: int = 1
    size: int = 1
    given: tuple[Arrays, ...] = ()
    """Rows [1, ...] each that are used in place of made ones, where there are any."""

    def rows(self, first: int, count: int, length: int = 0) -> Arrays:
        """Rows `first` to `first + count`, every input [count, ...], of the length where rows have one."""
        return tuple(
            np.concatenate([self._row(number, row, length) for row in range(first, first + count)])
            for number in range(len(self.inputs))
        )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Those to try, ascending; 0 where rows have none. Given rows' own ones are among them."""
        if not self.layout.ragged_inputs:
            return (0,)
        number = self.layout.ragged_inputs[0]
        own = {rows[number].shape[1] for rows in self.given}
        return tuple(sorted({*LENGTHS, *sorted(own)[:: max(1, len(own) - 1)]}))

    def bytes_of(self, count: int, length: int = 0) -> int:
        """What so many rows take, about."""
        return count * sum(8 * prod(self._shape(number, length)) for number in range(len(self.inputs)))

    def _row(self, number: int, row: int, length: int) -> npt.NDArray[Any]:
        port = self.inputs[number]
        shape = self._shape(number, length)
        if self.given:
            return _stretched(self.given[row % len(self.given)][number], shape)
        if is_mask(port):
            return np.ones((1, *shape), port.dtype)
        places = (np.arange(prod(shape), dtype=np.int64) + 31 * row) * _STEP
        if port.dtype == "object":
            return np.array([f"{place % 97}" for place in places], dtype=object).reshape(1, *shape)
        if port.dtype.startswith(("int", "uint")):
            return (places % self.variety).astype(port.dtype).reshape(1, *shape)
        # Between -1 and 1; a truth value is made of its sign.
        values = (places % 251 - 125) / 125
        return (values > 0 if port.dtype == "bool" else values.astype(port.dtype)).reshape(1, *shape)

    def _shape(self, number: int, length: int) -> tuple[int, ...]:
        if self.given and not length:
            return self.given[0][number].shape[1:]
        shape = [self.size if size is None else size for size in self.inputs[number].shape[1:]]
        if number in self.layout.ragged_inputs:
            shape[0] = length
        return tuple(shape)


def ways_to_make(inputs: tuple[Port, ...], layout: Layout, given: Sequence[Arrays] = ()) -> Iterator[MadeRows]:
    """Every way to make rows, the one that tells most of a model first; one only where rows are given.

    `given` holds rows [n, ...] of every input.
    """
    if given:
        apart = tuple(tuple(each[row : row + 1] for each in rows) for rows in given for row in range(len(rows[0])))
        yield MadeRows(inputs, layout, given=apart)
        return
    ragged = layout.ragged_inputs
    is_open = any(None in port.shape[2 if number in ragged else 1 :] for number, port in enumerate(inputs))
    is_whole = any(port.dtype.startswith(("int", "uint")) and not is_mask(port) for port in inputs)
    for variety in _VARIETIES if is_whole else _VARIETIES[:1]:
        for size in _SIZES if is_open else _SIZES[:1]:
            yield MadeRows(inputs, layout, variety, size)


def _stretched(row: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A row [1, T, ...] repeated or cut to the length that `shape` begins with."""
    if row.shape[1:] == shape:
        return row
    return row[:, np.arange(shape[0]) % row.shape[1]]
