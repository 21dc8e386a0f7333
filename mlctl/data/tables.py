"""Tables of any format, as batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlctl.data.batches import Batch, Source, SourceInput, TargetArray, given_splits
from mlctl.data.classes import ClassNumbers
from mlctl.data.columns import Columns, bind
from mlctl.data.origin import Origin
from mlctl.data.reading import Numbers, Reading
from mlctl.data.table_rows import Rows
from mlctl.errors import DataError
from mlctl.recipe.prepare import SPLITS, RowData, SplitByColumn


@dataclass(frozen=True)
class Table:
    """One file: its columns' names, and its rows in blocks, each with the position in the file behind it."""

    header: tuple[str, ...]
    blocks: Callable[[Columns], Iterator[tuple[Rows, int]]]


@dataclass(frozen=True)
class TableFormat:
    """How tables of one format are opened. Where rows name their own columns, the header is that of the first row."""

    open: Callable[[Origin], Table]
    rows_name_columns: bool = False


def open_tables(
    format: TableFormat, reading: Reading, settings: RowData, origins: Sequence[Origin], classes: ClassNumbers
) -> Source:
    """The rows of every file in turn; labels get their numbers from `classes`.

    Raises DataError as `bind` does, for a file whose columns are not those of the first one or that has no rows, and
    for what the format refuses.
    """
    split_column = settings.split.column if isinstance(settings.split, SplitByColumn) else None
    columns = bind(reading, split_column, format.open(origins[0]).header, origins[0].name)
    named = tuple(each for each in reading.inputs if isinstance(each, Numbers))
    pairs = zip(named, columns.inputs, strict=True)
    return Source(
        batches=table_batches(format, origins, columns, classes),
        inputs=tuple(SourceInput.of(wanted, found.shape, found.names) for wanted, found in pairs),
    )


def table_batches(
    format: TableFormat, origins: Sequence[Origin], columns: Columns, classes: ClassNumbers
) -> Iterator[Batch]:
    """The rows of every file in turn, in blocks."""
    next_row, finished = 0, 0
    for origin in origins:
        table = format.open(origin)
        if table.header != columns.header and not format.rows_name_columns:
            what = f"the header differs from that of {origins[0].name}{_first_difference(table.header, columns.header)}"
            raise DataError(what, where=origin.name, next="give every file the same columns in the same order")
        before = next_row
        for rows, position in table.blocks(columns):
            yield _batch(rows, columns, classes, origin, first_row=next_row, position=finished + position)
            next_row += rows.count
        if next_row == before:
            raise DataError("the file has a header and no rows", where=origin.name, next="give a file with rows")
        finished += origin.path.stat().st_size


def _first_difference(header: tuple[str, ...], expected: tuple[str, ...]) -> str:
    for position, (name, other) in enumerate(zip(header, expected, strict=False), start=1):
        if name != other:
            return f": column {position} is {name!r}, not {other!r}"
    return f": {len(header)} columns, not {len(expected)}"


def _batch(
    rows: Rows, columns: Columns, classes: ClassNumbers, origin: Origin, *, first_row: int, position: int
) -> Batch:
    place = {name: index for index, name in enumerate(columns.numeric)}
    inputs = tuple(
        rows.numbers[:, [place[name] for name in each.names]].reshape(-1, *each.shape) for each in columns.inputs
    )
    targets: TargetArray
    if columns.target is not None:
        targets = rows.numbers[:, place[columns.target]].copy()  # a view would keep every input in memory
    else:
        targets = classes.of(rows.texts[0].values)[rows.texts[0].codes]
    return Batch(inputs, targets, _splits(rows, columns, origin), first_row + rows.index, rows.bad, position)


def _splits(rows: Rows, columns: Columns, origin: Origin) -> NDArray[np.int8]:
    if columns.split is None:
        return given_splits(origin, len(rows.index))
    named = rows.texts[-1]
    return np.array([SPLITS.index(name) for name in named.values], dtype=np.int8)[named.codes]
