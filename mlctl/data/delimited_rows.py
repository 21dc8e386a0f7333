"""Delimited text as numbers and texts: typed columns at once, or row by row where something is wrong."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from itertools import chain

import pyarrow as pa
from pyarrow import csv as arrow_csv

from mlctl.data.batches import BadRow
from mlctl.data.columns import Columns
from mlctl.data.delimited_blocks import blocks, delimiter_of
from mlctl.data.numbers import reason_of_number
from mlctl.data.origin import Origin
from mlctl.data.row_blocks import BLOCK_BYTES, LONGEST_ROW_BYTES, Block
from mlctl.data.table_rows import (
    Rows,
    no_rows,
    reason_of_label,
    reason_of_split,
    rows_of_table,
    rows_of_values,
)
from mlctl.data.tables import Table, TableFormat
from mlctl.data.working_ahead import worked_ahead
from mlctl.errors import DataError


def open_delimited(origin: Origin, block_bytes: int = BLOCK_BYTES) -> Table:
    """The file's header, and the blocks behind it. Raises DataError as `header_of` and `blocks` do."""
    every = blocks(origin, block_bytes)
    header, first = header_of(next(every, Block(b"", 1, 0)), origin)

    def parsed(columns: Columns) -> Iterator[tuple[Rows, int]]:
        for block, rows in worked_ahead(chain((first,), every), lambda block: parse(block, columns, origin)):
            yield rows, block.position

    return Table(header, parsed)


DELIMITED = TableFormat(open_delimited)


def header_of(first: Block, origin: Origin) -> tuple[tuple[str, ...], Block]:
    """The column names of the file's first row, and the block behind it.

    Raises DataError where there is no row, the row is malformed, or a name occurs twice.
    """
    reader = csv.reader(io.StringIO(first.text.decode(), newline="\n"), delimiter=delimiter_of(origin))
    try:
        names = next((tuple(row) for row in reader if row), ())
    except csv.Error as error:
        raise DataError(f"the header cannot be read: {error}", where=origin.name, next="mend the first row") from error
    if not names:
        raise DataError("the file is empty", where=origin.name, next="give a file with a header and rows")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"the header names {twice[0]!r} twice", where=origin.name, next="give every column its own name"
        )
    lines = first.text.split(b"\n", reader.line_num)
    return names, first.after(len(first.text) - len(lines[-1]) if len(lines) > reader.line_num else len(first.text))


def parse(block: Block, columns: Columns, origin: Origin) -> Rows:
    """The rows of a block without its header; blank lines are none."""
    return _parse_at_once(block, columns, origin) or parse_row_by_row(block, columns, origin)


def _parse_at_once(block: Block, columns: Columns, origin: Origin) -> Rows | None:
    """The rows through pyarrow, or None where at least one of them needs a closer look."""
    if b"\r" in block.text and block.text.count(b"\r") != block.text.count(b"\r\n"):
        return None  # pyarrow would end a row at a lone carriage return
    if not block.text.strip(b"\r\n"):
        return no_rows(columns)
    types = dict.fromkeys(columns.numeric, pa.float64()) | dict.fromkeys(columns.texts, pa.string())
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(block.text),
            # One block, so that no row straddles a border, and one thread, for other blocks have the others.
            read_options=arrow_csv.ReadOptions(
                column_names=columns.header, block_size=len(block.text) + 1, use_threads=False
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter_of(origin), newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[]),
        )
    except pa.ArrowInvalid:
        return None
    return rows_of_table(table, columns)


def parse_row_by_row(block: Block, columns: Columns, origin: Origin) -> Rows:
    """The same rows through Python's csv, slowly, with the line and the reason of every bad one."""
    numbers: list[list[float]] = []
    texts: list[list[str]] = []
    index: list[int] = []
    bad: list[BadRow] = []
    numeric = [(name, columns.header.index(name)) for name in columns.numeric]
    for line, values in _records(block, delimiter_of(origin)):
        reason = values if isinstance(values, str) else _reason(values, numeric, columns)
        if isinstance(values, str) or reason:
            bad.append(BadRow(origin.name, line, reason))
        else:
            index.append(len(numbers) + len(bad))
            numbers.append([float(values[position]) for _, position in numeric])
            texts.append([values[columns.header.index(name)] for name in columns.texts])
    return rows_of_values(numbers, texts, index, columns, bad)


def _records(block: Block, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """The first line and the values of every row that is not blank, or in place of values why there are none."""
    csv.field_size_limit(LONGEST_ROW_BYTES)  # the whole process's, and 128 kB where nobody sets it
    reader = csv.reader(io.StringIO(block.text.decode(), newline="\n"), delimiter=delimiter)
    while True:
        line = block.first_line + reader.line_num
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield line, f"the row is malformed: {error}"
            continue
        if values is None:
            return
        if values:
            yield line, values


def _reason(values: list[str], numeric: list[tuple[str, int]], columns: Columns) -> str:
    """Why a row cannot be used; empty where it can."""
    if len(values) != len(columns.header):
        return f"the row has {len(values)} values, the header {len(columns.header)}"
    for name, position in numeric:
        if reason := reason_of_number(values[position]):
            return f"column {name!r} {reason}"
    if columns.label is not None and (reason := reason_of_label(values[columns.header.index(columns.label)])):
        return f"column {columns.label!r} {reason}"
    if columns.split is not None:
        return reason_of_split(columns.split, values[columns.header.index(columns.split)])
    return ""
