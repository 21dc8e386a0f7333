"""Parquet's rows as numbers and texts, a few megabytes at a time; nothing is done row by row but naming bad ones.

Of every column that is read, a page and its dictionary are in memory, by default of a megabyte each.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import isfinite

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, parquet, types

from mlctl.data.batches import BadRow
from mlctl.data.columns import Columns
from mlctl.data.numbers import FLOAT32_LIMIT
from mlctl.data.origin import Origin
from mlctl.data.table_rows import Rows, reason_of_label, reason_of_split, rows_of_table
from mlctl.data.tables import Table, TableFormat
from mlctl.errors import DataError
from mlctl.recipe.prepare import SPLITS

BATCH_BYTES = 4 << 20
MOST_BATCH_ROWS = 1 << 16
# Each column is read through a buffer of this size, so that a group of rows of any size need not be in memory.
_BUFFER_BYTES = 1 << 16


def open_parquet(origin: Origin, batch_bytes: int = BATCH_BYTES) -> Table:
    """The names of the file's columns, and its rows.

    Raises DataError for what is no intact Parquet file, and where two columns have one name.
    """
    with damage_told(origin):
        file = parquet.ParquetFile(
            origin.path, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
        )
    names = tuple(file.schema_arrow.names)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"two columns are called {twice[0]!r}", where=origin.name, next="give every column its own name"
        )
    return Table(names, partial(_blocks, file, origin, batch_bytes))


PARQUET = TableFormat(open_parquet)


@contextmanager
def damage_told(origin: Origin) -> Iterator[None]:
    """Raises DataError with the file's name for what pyarrow says of it."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"this is not an intact Parquet file ({first})"
        raise DataError(what, where=origin.name, next="fetch the file again; what is here is damaged") from error


def _blocks(
    file: parquet.ParquetFile, origin: Origin, batch_bytes: int, columns: Columns
) -> Iterator[tuple[Rows, int]]:
    """Usable and bad rows, and the position in the file as if all rows were of one size."""
    names = list(dict.fromkeys((*columns.numeric, *columns.texts)))
    _check_types(file.schema_arrow, columns, origin)
    count, done, size = file.metadata.num_rows, 0, origin.path.stat().st_size
    rows = min(MOST_BATCH_ROWS, max(1, batch_bytes // (8 * len(names))))
    with file:
        batches = file.iter_batches(batch_size=rows, columns=names)
        while table := _next_table(batches, columns, origin):
            done += table.num_rows
            parsed = rows_of_table(table, columns) or _looked_at(table, columns, origin, done - table.num_rows)
            yield parsed, size * done // max(count, done)
    if done != count:
        what = f"the file declares {count:,} rows and holds {done:,}"
        raise DataError(what, where=origin.name, next="fetch the file again; what is here is damaged")


def _next_table(batches: Iterator[pa.RecordBatch], columns: Columns, origin: Origin) -> pa.Table | None:
    """The next rows with numbers as float64 and texts as strings; None at the end."""
    with damage_told(origin):
        batch = next(batches, None)
        if batch is None:
            return None
        kinds = dict.fromkeys(columns.numeric, pa.float64()) | dict.fromkeys(columns.texts, pa.string())
        # Not safe: a whole number above 2^53 is rounded, as it is in a table of text.
        cast = {name: _plain(batch.column(name)).cast(kind, safe=False) for name, kind in kinds.items()}
        return pa.table(cast)


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if types.is_dictionary(column.type) else column


def _check_types(schema: pa.Schema, columns: Columns, origin: Origin) -> None:
    texts = {columns.label: (_is_label, "labels"), columns.split: (_is_text, "texts")}
    wanted = dict.fromkeys(columns.numeric, (_is_number, "numbers")) | texts
    for name, (is_right, what) in wanted.items():
        if name is None:
            continue
        kind = schema.field(name).type
        if not is_right(kind.value_type if types.is_dictionary(kind) else kind):
            raise DataError(
                f"column {name!r} is of the type {kind}, and holds no {what}",
                where=origin.name,
                next="choose another column, or write it as another type",
            )


def _is_number(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_label(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(types.is_integer(kind) or types.is_boolean(kind))


def _looked_at(table: pa.Table, columns: Columns, origin: Origin, before: int) -> Rows:
    """The usable rows of a table in which some are not; `before` rows of the file stand before it."""
    is_usable = np.ones(table.num_rows, dtype=np.bool_)
    for name in columns.numeric:
        is_usable &= np.abs(table[name].to_numpy()) < FLOAT32_LIMIT  # false for NaN, which a null becomes
    if columns.label is not None:
        is_usable &= _where(table[columns.label], lambda label: not reason_of_label(label))
    if columns.split is not None:
        is_usable &= _where(table[columns.split], lambda split: split in SPLITS)
    rows = rows_of_table(table.filter(pa.array(is_usable)), columns)
    assert rows is not None, "what is left is usable"
    bad = tuple(
        BadRow(origin.name, before + row + 1, _reason(table, row, columns))
        for row in np.flatnonzero(~is_usable).tolist()
    )
    return Rows(rows.numbers, rows.texts, np.flatnonzero(is_usable), table.num_rows, bad)


def _where(texts: pa.ChunkedArray, is_right: Callable[[str], bool]) -> NDArray[np.bool_]:
    """Where a text is right, bool [rows]; a null is not."""
    encoded = compute.dictionary_encode(texts.combine_chunks())
    right: NDArray[np.bool_] = np.array([*map(is_right, encoded.dictionary.to_pylist()), False])
    codes: NDArray[np.int64] = encoded.indices.fill_null(-1).to_numpy()
    return right[codes]


def _reason(table: pa.Table, row: int, columns: Columns) -> str:
    """Why a row cannot be used."""
    for name in columns.numeric:
        number = table[name][row].as_py()
        if number is None:
            return f"column {name!r} is empty"
        if not isfinite(number):
            return f"column {name!r} holds {number}, not a finite number"
        if abs(number) >= FLOAT32_LIMIT:
            return f"column {name!r} holds {number}, more than float32 can hold"
    if columns.label is not None and (reason := reason_of_label(table[columns.label][row].as_py() or "")):
        return f"column {columns.label!r} {reason}"
    split = columns.split or ""
    return reason_of_split(split, table[split][row].as_py() or "")
