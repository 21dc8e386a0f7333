"""The first pass over a source: usable rows to disk, bad and repeated ones aside."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlctl.data.bad_rows import BadRows
from mlctl.data.batches import Batch, TargetArray
from mlctl.data.duplicates import SeenRows
from mlctl.data.staging import StagedInput


@dataclass(frozen=True)
class Gathered:
    """Every usable row: inputs on disk; targets, splits and source positions [rows] in memory."""

    inputs: tuple[StagedInput, ...]
    targets: TargetArray
    splits: NDArray[np.int8]
    rows: NDArray[np.int64]
    bad_rows: int
    duplicate_rows: int


class Gathering:
    """Takes in batches one by one.

    `on_bad` and `duplicates` are the recipe's: with `fail`, nothing more is kept once a bad row has been met, though
    the reading goes on to count them all.
    """

    def __init__(
        self,
        inputs: tuple[StagedInput, ...],
        bad_rows: BadRows,
        on_bad: Literal["fail", "skip"],
        duplicates: Literal["keep", "drop"],
    ) -> None:
        self._inputs = inputs
        self._bad_rows = bad_rows
        self._fails = on_bad == "fail"
        self._seen = SeenRows() if duplicates == "drop" else None
        self._duplicate_rows = 0
        self._targets: list[TargetArray] = []
        self._splits: list[NDArray[np.int8]] = []
        self._rows: list[NDArray[np.int64]] = []

    def add(self, batch: Batch) -> None:
        """Keep the usable rows of a batch that were not there before."""
        self._bad_rows.add(batch.bad)
        if self._fails and self._bad_rows.count:
            return
        chosen = batch if self._seen is None else batch.only(self._seen.first_of(batch))
        self._duplicate_rows += len(batch) - len(chosen)
        for staged, values in zip(self._inputs, chosen.inputs, strict=True):
            staged.append(values)
        self._targets.append(chosen.targets)
        self._splits.append(chosen.splits)
        self._rows.append(chosen.rows)

    def finish(self) -> Gathered:
        """Everything kept. Raises DataError for bad rows where they fail the step, and where no row is usable."""
        if self._bad_rows.count and (self._fails or not sum(map(len, self._rows))):
            raise self._bad_rows.refusal()
        targets: TargetArray = np.concatenate(self._targets)  # type: ignore[assignment]  # all of one dtype
        return Gathered(
            inputs=self._inputs,
            targets=targets,
            splits=np.concatenate(self._splits),
            rows=np.concatenate(self._rows),
            bad_rows=self._bad_rows.count,
            duplicate_rows=self._duplicate_rows,
        )


def gather(batches: Iterable[Batch], gathering: Gathering, tell_position: Callable[[int], None]) -> Gathered:
    """Every batch, taken in. `tell_position` hears how many bytes of the source are read."""
    for batch in batches:
        gathering.add(batch)
        tell_position(batch.position)
    return gathering.finish()
