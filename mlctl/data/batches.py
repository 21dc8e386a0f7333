"""Rows on their way from a source to the prepared arrays."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

InputArray: TypeAlias = NDArray[np.float32] | NDArray[np.uint8] | NDArray[np.int64]
TargetArray: TypeAlias = NDArray[np.float32] | NDArray[np.int64]

UNASSIGNED = -1
"""The split number of a row whose split is dealt out after everything is read."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used; `line` counts the file's lines from 1 and is None for an image."""

    file: Path
    line: int | None
    reason: str

    def __str__(self) -> str:
        place = f"{self.file}" if self.line is None else f"{self.file}:{self.line}"
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
