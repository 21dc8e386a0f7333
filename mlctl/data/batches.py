"""Rows on their way from a source to the prepared arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlctl.data.origin import Origin
from mlctl.data.reading import Numbers, Pixels, Standardize
from mlctl.recipe.prepare import SPLITS

InputArray: TypeAlias = NDArray[np.float32] | NDArray[np.uint8] | NDArray[np.int64]
TargetArray: TypeAlias = NDArray[np.float32] | NDArray[np.int64]

UNASSIGNED = -1
"""The split number of a row whose split is dealt out after everything is read."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used.

    `file` is what messages call the file; `line` counts its lines, or the rows of a binary table, from 1 and is None
    for what has neither.
    """

    file: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}"


@dataclass(frozen=True)
class Batch:
    """Usable rows, and the bad ones that stood among them.

    `inputs` hold [rows, *shape] each, `targets` [rows] (class numbers in order of appearance, or numbers; [rows, 0]
    where the source has none), `splits` [rows] int8 indices of SPLITS or UNASSIGNED, `rows` [rows] int64 positions in
    the source. `position` counts the bytes of the source's files that are read so far.
    """

    inputs: tuple[InputArray, ...]
    targets: TargetArray
    splits: NDArray[np.int8]
    rows: NDArray[np.int64]
    bad: tuple[BadRow, ...]
    position: int

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, chosen: NDArray[np.bool_]) -> "Batch":
        """The rows where `chosen` [rows] is true."""
        return Batch(
            inputs=tuple(values[chosen] for values in self.inputs),
            targets=self.targets[chosen],
            splits=self.splits[chosen],
            rows=self.rows[chosen],
            bad=self.bad,
            position=self.position,
        )


@dataclass(frozen=True)
class SourceInput:
    """One input as a source gives it.

    `columns` are those that make it, in order; none for images and arrays. `dtype` is None where the values decide.
    `axis` names each index of the first axis in the statistics, or all values together.
    """

    name: str
    shape: tuple[int, ...]
    columns: tuple[str, ...]
    axis: tuple[str, ...]
    dtype: str | None = None
    scale: float = 1.0
    standardize: Standardize = "no"

    @classmethod
    def of(cls, wanted: Numbers | Pixels, shape: tuple[int, ...], columns: tuple[str, ...] = ()) -> "SourceInput":
        """The input that `wanted` asks for; `columns` in the place of channels where there are any."""
        channels = tuple(f"channel {index}" for index in range(shape[0]))
        axis = columns if shape == (len(columns),) else channels
        return cls(wanted.name, shape, columns, axis, None, wanted.scale, wanted.standardize)


@dataclass(frozen=True)
class Source:
    """Batches to be read once, and what each of their inputs is."""

    batches: Iterator[Batch]
    inputs: tuple[SourceInput, ...]


def given_splits(origin: Origin, rows: int) -> NDArray[np.int8]:
    """The split that the recipe names the file for, for each of its rows, int8 [rows]."""
    return np.full(rows, UNASSIGNED if origin.split is None else SPLITS.index(origin.split), dtype=np.int8)
