"""From raw files to arrays per split, in two passes and in memory of a few batches."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from mlctl.data.arrays import write_splits
from mlctl.data.bad_rows import BadRows
from mlctl.data.batches import Source
from mlctl.data.classes import ClassNumbers
from mlctl.data.description import DataDescription, Field, Scaling
from mlctl.data.gathering import Gathered, Gathering, gather
from mlctl.data.opening import opened_origins
from mlctl.data.origin import Origin
from mlctl.data.pacing import paced
from mlctl.data.reading import Category, Number, Reading
from mlctl.data.sources import source_of
from mlctl.data.splitting import split_rows
from mlctl.data.staging import StagedInput
from mlctl.data.statistics import DataStatistics, SplitStatistics, Summary
from mlctl.events import Tell, Warned
from mlctl.recipe.prepare import SPLITS, RowData

MOST_NAMED: Final = 5
"""Names in a warning."""


@dataclass(frozen=True)
class Prepared:
    """What was prepared, and how many rows were left out."""

    description: DataDescription
    bad_rows: int
    duplicate_rows: int


def prepare(reading: Reading, settings: RowData, base: Path, into: Path, seed: int, tell: Tell) -> Prepared:
    """Read the source and write arrays, `data.json` and `statistics.json` into the folder `into`.

    For every split: `<input>.npy` [rows, *shape] uint8 (where every value of every split is a whole number from 0 to
    255) or float32, or an array of the source in its own dtype; `target.npy` [rows] int64 class numbers or float32,
    [rows, 0] where there is no target; and `row.npy` [rows] int64 positions in the source. Rows keep the source's
    order. The bytes depend on the arguments and the files, not on the core count.

    `base` is the folder of the recipe. Raises DataError, with file and line, for data that is not as `reading` and
    `settings` say, and what `opened_origins` raises.
    """
    classes = ClassNumbers()
    with TemporaryDirectory(prefix="staging-", dir=into) as folder:
        staging = Path(folder)
        kind, found = source_of(opened_origins(settings, base, _made(staging / "files"), tell))
        if empty := kind.empty_folders(found):
            tell(Warned(f"there are no {kind.name} in {_some(empty)}"))
        source = kind.open(reading, settings, found, classes)
        folders = (into, _made(staging / "rows"))
        gathered = _read(source, settings, base, folders, paced(tell, "prepare", _bytes(found)))
        if isinstance(reading.target, Category):
            gathered = replace(gathered, targets=classes.renumbered(gathered.targets.astype(np.int64)))
        labels = classes.labels()
        by_class = gathered.targets.astype(np.int64) if labels else None
        splits = split_rows(settings.split, gathered.splits, by_class, labels, seed)
        names = tuple((each.name, each.axis) for each in source.inputs)
        statistics = write_splits(gathered, splits, names, labels, into)
    DataStatistics(gathered.bad_rows, gathered.duplicate_rows, statistics).save(into)
    description = _describe(reading, source, gathered, labels, statistics)
    description.save(into)
    _warn_of_classes(statistics, tell)
    return Prepared(description, gathered.bad_rows, gathered.duplicate_rows)


def _read(
    source: Source, settings: RowData, base: Path, folders: tuple[Path, Path], tell_position: Callable[[int], None]
) -> Gathered:
    """Every usable row; `folders` are the one for the list of bad rows and the one for staging."""
    into, staging = folders
    inputs = tuple(
        StagedInput(staging / str(index), each.shape, each.dtype) for index, each in enumerate(source.inputs)
    )
    with BadRows(into if settings.on_bad == "skip" else None, base) as bad_rows:
        gathering = Gathering(inputs, bad_rows, settings.on_bad, settings.duplicates)
        return gather(source.batches, gathering, tell_position)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _bytes(found: Sequence[Origin]) -> int:
    return sum(origin.path.stat().st_size for origin in found)


def _describe(
    reading: Reading,
    source: Source,
    gathered: Gathered,
    labels: tuple[str, ...],
    statistics: dict[str, SplitStatistics],
) -> DataDescription:
    train = statistics["train"]
    scalings = tuple(
        _scaling(each.scale, measured.summaries if each.standardize == "first-axis" else ())
        for each, measured in zip(source.inputs, train.inputs, strict=True)
    )
    standardizes = isinstance(reading.target, Number) and reading.target.standardize
    return DataDescription(
        task=reading.task,
        inputs=tuple(
            Field(each.name, staged.dtype, staged.shape, each.columns)
            for each, staged in zip(source.inputs, gathered.inputs, strict=True)
        ),
        input_scaling=scalings,
        target=_target(reading, gathered),
        target_scaling=_scaling(1.0, (train.target,) if standardizes and train.target else ()),
        labels=labels,
        rows={split: statistics[split].rows for split in SPLITS},
    )


def _target(reading: Reading, gathered: Gathered) -> Field:
    name = (reading.target.column or "class") if reading.target else "none"
    return Field(name, gathered.targets.dtype.name, gathered.targets.shape[1:])


def _scaling(scale: float, summaries: tuple[Summary, ...]) -> Scaling:
    """Mean and deviation in units of raw / scale; a deviation of 0 becomes 1, so that a constant becomes 0."""
    return Scaling(
        scale=scale,
        mean=tuple(each.mean / scale for each in summaries),
        deviation=tuple(each.deviation / scale or 1.0 for each in summaries),
    )


def _warn_of_classes(statistics: dict[str, SplitStatistics], tell: Tell) -> None:
    """Tell of classes that cannot be learnt, and of those that cannot be both learnt and measured."""
    learnt = {each.label: each.rows for each in statistics["train"].classes}
    if unlearnt := [repr(label) for label, rows in learnt.items() if not rows]:
        tell(Warned(f"no row of the train split has the label {_some(unlearnt)}"))
    rows: Counter[str] = Counter()
    for split in statistics.values():
        rows.update({each.label: each.rows for each in split.classes})
    if lonely := [repr(label) for label, count in rows.items() if count == learnt[label] == 1]:
        tell(Warned(f"labels of a single row, which is learnt from and which nothing measures: {_some(lonely)}"))


def _some(names: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
