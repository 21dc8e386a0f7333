"""Figures about prepared data, gathered batch by batch: `statistics.json`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlctl.data.batches import InputArray, TargetArray

FILE_NAME = "statistics.json"


@dataclass(frozen=True)
class Summary:
    """One column's or channel's values; `deviation` is the population's (divided by `count`)."""

    name: str
    count: int
    mean: float
    deviation: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class ClassCount:
    """How many rows have a label, and which share of the split that is."""

    label: str
    rows: int
    share: float


@dataclass(frozen=True)
class InputStatistics:
    """One summary for each index of an input's first axis."""

    name: str
    summaries: tuple[Summary, ...]


@dataclass(frozen=True)
class SplitStatistics:
    """One split's rows; `target` for a numeric target, `classes` for labels."""

    rows: int
    inputs: tuple[InputStatistics, ...]
    target: Summary | None
    classes: tuple[ClassCount, ...]


@dataclass(frozen=True)
class DataStatistics:
    """What was set aside, and every split; figures are of raw values, before any scaling."""

    bad_rows: int
    duplicate_rows: int
    splits: dict[str, SplitStatistics]

    def save(self, folder: Path) -> None:
        """Write `statistics.json` into `folder`."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")


class Moments:
    """Count, mean, squared deviation, minimum and maximum along the first axis of a sample, in float64.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1979), which keeps its digits where a sum of
    squares would cancel.
    """

    def __init__(self, length: int) -> None:
        self.count = 0
        self.mean: NDArray[np.float64] = np.zeros(length)
        self._squares: NDArray[np.float64] = np.zeros(length)
        self._minimum: NDArray[np.float64] = np.full(length, np.inf)
        self._maximum: NDArray[np.float64] = np.full(length, -np.inf)

    def add(self, values: InputArray | TargetArray) -> None:
        """Take in a batch [rows, length, ...]; [rows] counts as [rows, 1]."""
        if not values.size:
            return
        # One contiguous row of values for each index: NumPy then sums pairwise, along the fastest axis.
        table = np.ascontiguousarray(
            values.reshape(len(values), len(self.mean), -1).swapaxes(0, 1), dtype=np.float64
        ).reshape(len(self.mean), -1)
        count = table.shape[1]
        mean = table.mean(axis=1)
        self._minimum = np.minimum(self._minimum, table.min(axis=1))
        self._maximum = np.maximum(self._maximum, table.max(axis=1))
        table -= mean[:, None]
        np.square(table, out=table)
        total = self.count + count
        difference = mean - self.mean
        self._squares += table.sum(axis=1) + difference**2 * (self.count * count / total)
        self.mean = self.mean + difference * (count / total)
        self.count = total

    @property
    def deviation(self) -> NDArray[np.float64]:
        """The population's standard deviation, float64 [length]; exactly 0 where all values are equal."""
        spread = np.sqrt(self._squares / max(self.count, 1))
        return np.where(self._minimum == self._maximum, 0.0, spread)

    def summaries(self, names: tuple[str, ...]) -> tuple[Summary, ...]:
        """One summary for each index, under the given names."""
        figures = zip(names, self.mean, self.deviation, self._minimum, self._maximum, strict=True)
        return tuple(
            Summary(name, self.count, float(mean), float(deviation), float(low), float(high))
            for name, mean, deviation, low, high in figures
        )


def class_counts(classes: NDArray[np.int64], labels: tuple[str, ...]) -> tuple[ClassCount, ...]:
    """How the rows' classes [rows] spread over `labels`."""
    counts = np.bincount(classes, minlength=len(labels))
    return tuple(
        ClassCount(label, int(rows), int(rows) / max(len(classes), 1))
        for label, rows in zip(labels, counts, strict=True)
    )
