"""Tables in delimited text, as batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlctl.data.batches import UNASSIGNED, Batch, TargetArray
from mlctl.data.classes import ClassNumbers
from mlctl.data.columns import Columns, bind, header_of
from mlctl.data.delimited_blocks import BLOCK_BYTES, Block, blocks
from mlctl.data.delimited_rows import Rows, parse
from mlctl.data.origins import Origin
from mlctl.data.reading import Reading
from mlctl.errors import DataError
from mlctl.recipe.prepare import SPLITS


def table_columns(reading: Reading, split_column: str | None, path: Path) -> Columns:
    """The columns that `reading` takes from the table at `path`. Raises DataError as `bind` and `header_of` do."""
    header, _ = _open(path)
    return bind(reading, split_column, header, path)


def table_batches(
    origins: Sequence[Origin], columns: Columns, classes: ClassNumbers, block_bytes: int = BLOCK_BYTES
) -> Iterator[Batch]:
    """The rows of every file in turn; labels get their numbers from `classes`.

    Raises DataError for a file whose header is not `columns.header` or that has no rows, and as `blocks` does.
    """
    next_row, finished = 0, 0
    for origin in origins:
        header, rest = _open(origin.path, block_bytes)
        if header != columns.header:
            what = f"the header differs from that of {origins[0].path}{_first_difference(header, columns.header)}"
            raise DataError(what, where=origin.path, next="give every file the same columns in the same order")
        before = next_row
        for block in rest:
            rows = parse(block, columns, origin.path)
            position = finished + block.position
            yield _batch(rows, columns, classes, origin, first_row=next_row, position=position)
            next_row += rows.count
        if next_row == before:
            raise DataError("the file has a header and no rows", where=origin.path, next="give a file with rows")
        finished += origin.path.stat().st_size


def _open(path: Path, block_bytes: int = BLOCK_BYTES) -> tuple[tuple[str, ...], Iterator[Block]]:
    """The header's names, and the blocks behind the header."""
    every = blocks(path, block_bytes)
    first = next(every, Block(b"", 1, 0))
    header, first = header_of(first, path)

    def rest() -> Iterator[Block]:
        yield first
        yield from every

    return header, rest()


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
    splits = _splits(rows, columns, origin)
    return Batch(inputs, targets, splits, first_row + rows.index, rows.bad, position)


def _splits(rows: Rows, columns: Columns, origin: Origin) -> NDArray[np.int8]:
    if columns.split is not None:
        named = rows.texts[-1]
        return np.array([SPLITS.index(name) for name in named.values], dtype=np.int8)[named.codes]
    given = UNASSIGNED if origin.split is None else SPLITS.index(origin.split)
    return np.full(len(rows.index), given, dtype=np.int8)
