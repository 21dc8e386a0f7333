"""One block of delimited text as numbers and texts: typed columns at once, or row by row where something is wrong."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute
from pyarrow import csv as arrow_csv

from mlctl.data.batches import BadRow
from mlctl.data.columns import Columns
from mlctl.data.delimited_blocks import LONGEST_ROW_BYTES, Block, delimiter_of
from mlctl.recipe.prepare import SPLITS

_NUMBER = re.compile(r"[ \t]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t]*", re.ASCII)
_NOT_FINITE = re.compile(r"[ \t]*[+-]?(nan|inf|infinity)[ \t]*", re.IGNORECASE)
_FLOAT32_LIMIT = 2.0**128 - 2.0**103  # half a step above the largest float32: from here on it rounds to infinity
_SHOWN = 40


@dataclass(frozen=True)
class TextColumn:
    """Texts as a table of values and, for every row, the value's position in it, int64 [rows]."""

    values: tuple[str, ...]
    codes: NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """The usable rows of a block.

    `numbers` is float32 [rows, numeric columns]; `texts` has one entry for each text column; `index` is int64 [rows],
    the row's place among all `count` rows of the block, blank lines not counted.
    """

    numbers: NDArray[np.float32]
    texts: tuple[TextColumn, ...]
    index: NDArray[np.int64]
    count: int
    bad: tuple[BadRow, ...]


def parse(block: Block, columns: Columns, path: Path) -> Rows:
    """The rows of a block without its header."""
    return _parse_at_once(block, columns, path) or parse_row_by_row(block, columns, path)


def _parse_at_once(block: Block, columns: Columns, path: Path) -> Rows | None:
    """The rows through pyarrow, or None where at least one of them needs a closer look."""
    if block.text.count(b"\r") != block.text.count(b"\r\n"):
        return None  # pyarrow would end a row at a lone carriage return
    if not block.text.strip(b"\r\n"):
        return _no_rows(columns)
    try:
        table = _arrow_table(block, columns, path)
    except pa.ArrowInvalid:
        return None
    numbers = np.empty((table.num_rows, len(columns.numeric)), dtype=np.float32)
    with np.errstate(over="ignore"):
        for position, name in enumerate(columns.numeric):
            numbers[:, position] = table[name].to_numpy()
    texts = tuple(_text_column(table[name].combine_chunks()) for name in columns.texts)
    labels_are_given = columns.label is None or all(label.strip() for label in texts[0].values)
    splits_are_known = columns.split is None or set(texts[-1].values) <= set(SPLITS)
    if not (labels_are_given and splits_are_known and np.isfinite(numbers).all()):
        return None
    return Rows(numbers, texts, np.arange(table.num_rows), table.num_rows, ())


def _no_rows(columns: Columns) -> Rows:
    nothing = np.empty(0, dtype=np.int64)
    numbers = np.empty((0, len(columns.numeric)), dtype=np.float32)
    return Rows(numbers, tuple(TextColumn((), nothing) for _ in columns.texts), nothing, 0, ())


def _arrow_table(block: Block, columns: Columns, path: Path) -> pa.Table:
    types = dict.fromkeys(columns.numeric, pa.float64()) | dict.fromkeys(columns.texts, pa.string())
    return arrow_csv.read_csv(
        pa.BufferReader(block.text),
        # One block: pyarrow still shares the columns out among its threads, and no row straddles a border.
        read_options=arrow_csv.ReadOptions(column_names=columns.header, block_size=len(block.text) + 1),
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter_of(path), newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[]),
    )


def _text_column(column: pa.Array) -> TextColumn:
    encoded = compute.dictionary_encode(column)
    return TextColumn(tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy().astype(np.int64))


def parse_row_by_row(block: Block, columns: Columns, path: Path) -> Rows:
    """The same rows through Python's csv, slowly, with the line and the reason of every bad one."""
    numbers: list[list[float]] = []
    texts: list[list[str]] = []
    index: list[int] = []
    bad: list[BadRow] = []
    numeric = [(name, columns.header.index(name)) for name in columns.numeric]
    count = 0
    for line, values in _records(block, delimiter_of(path)):
        reason = values if isinstance(values, str) else _reason(values, numeric, columns)
        if isinstance(values, str) or reason:
            bad.append(BadRow(path, line, reason))
        else:
            numbers.append([float(values[position]) for _, position in numeric])
            texts.append([values[columns.header.index(name)] for name in columns.texts])
            index.append(count)
        count += 1
    return Rows(
        np.array(numbers, dtype=np.float64).astype(np.float32).reshape(len(numbers), len(numeric)),
        tuple(TextColumn(tuple(row[i] for row in texts), np.arange(len(texts))) for i in range(len(columns.texts))),
        np.array(index, dtype=np.int64),
        count,
        tuple(bad),
    )


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
        if reason := _reason_of_number(values[position]):
            return f"column {name!r} {reason}"
    if columns.label is not None and not values[columns.header.index(columns.label)].strip():
        return f"column {columns.label!r} holds no label"
    if columns.split is not None and (split := values[columns.header.index(columns.split)]) not in SPLITS:
        return f"column {columns.split!r} holds {split[:_SHOWN]!r}, not {', '.join(SPLITS[:-1])} or {SPLITS[-1]}"
    return ""


def _reason_of_number(text: str) -> str:
    is_number = _NUMBER.fullmatch(text) is not None
    if is_number and abs(float(text)) < _FLOAT32_LIMIT:
        return ""
    if is_number:
        return f"holds {text[:_SHOWN]!r}, more than float32 can hold"
    if not text.strip():
        return "is empty"
    kind = "a finite number" if _NOT_FINITE.fullmatch(text) else "a number"
    return f"holds {text[:_SHOWN]!r}, not {kind}"
