"""Lines of JSON as numbers and texts: typed columns at once, or row by row where something is wrong."""

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import json as arrow_json

from mlctl.data.batches import BadRow
from mlctl.data.columns import Columns
from mlctl.data.numbers import FLOAT32_LIMIT, SHOWN
from mlctl.data.origin import Origin
from mlctl.data.row_blocks import BLOCK_BYTES, Block, row_blocks
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

Value: TypeAlias = "Number | str | bool | list[Any] | tuple[tuple[str, Any], ...] | None"
"""A JSON value; an object is its pairs, so that a name that occurs twice is seen."""


class Number(str):
    """A number as it is written."""


_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=Number, parse_float=Number, parse_constant=Number)
_LABEL_TYPES = {Number: pa.int64(), str: pa.string(), bool: pa.bool_()}


def open_json_lines(origin: Origin, block_bytes: int = BLOCK_BYTES) -> Table:
    """The keys of the file's first object, and its blocks.

    Raises DataError as `row_blocks`, and for a file whose first line is no object.
    """
    every = row_blocks(origin, lambda text: text.rfind(b"\n") + 1, lambda rest: True, block_bytes)
    first = next((block for block in every if block.text.strip()), None)
    if first is None:
        raise DataError("the file is empty", where=origin.name, next="give a file with an object on each line")
    line, text = next(lines(first))
    row = parsed_row(text)
    if not isinstance(row, tuple):
        what = "the first row is no JSON object"
        raise DataError(what, where=f"{origin.name}:{line}", next='give an object such as {"a": 1} on each line')

    def parsed(columns: Columns) -> Iterator[tuple[Rows, int]]:
        for block, rows in worked_ahead(chain((first,), every), lambda block: parse(block, columns, origin)):
            yield rows, block.position

    return Table(tuple(dict(row)), parsed)


JSON_LINES = TableFormat(open_json_lines, rows_name_columns=True)


def parse(block: Block, columns: Columns, origin: Origin) -> Rows:
    """The rows of a block; blank lines are none."""
    return _parse_at_once(block, columns) or parse_row_by_row(block, columns, origin)


def _parse_at_once(block: Block, columns: Columns) -> Rows | None:
    """The rows through pyarrow, or None where at least one of them needs a closer look."""
    text = block.text.strip(b" \t\r\n")
    if not text:
        return no_rows(columns)
    lines = text.count(b"\n") + 1
    if not text.startswith(b"{") or text.count(b"}\n{") + text.count(b"}\r\n{") != lines - 1:
        return None  # pyarrow reads on where a line ends within an object
    schema = _schema(text[: text.find(b"\n")] if lines > 1 else text, columns)
    if schema is None:
        return None
    try:
        table = arrow_json.read_json(
            pa.BufferReader(text),
            # One block, so that no row straddles a border, and one thread, for other blocks have the others.
            read_options=arrow_json.ReadOptions(block_size=len(text) + 1, use_threads=False),
            parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != lines:
        return None  # two objects on one line
    if columns.label is not None:
        place = table.schema.get_field_index(columns.label)
        table = table.set_column(place, columns.label, table[columns.label].cast(pa.string()))
    return rows_of_table(table, columns)


def _schema(first: bytes, columns: Columns) -> pa.Schema | None:
    """What pyarrow shall read, the label as the first row has it; None where that cannot be."""
    types = dict.fromkeys(columns.numeric, pa.float64()) | dict.fromkeys(columns.texts, pa.string())
    if columns.label is not None:
        row = parsed_row(first.decode())
        label = dict(row).get(columns.label) if isinstance(row, tuple) else None
        if type(label) not in _LABEL_TYPES:
            return None
        types[columns.label] = _LABEL_TYPES[type(label)]
    return pa.schema(list(types.items()))


def parse_row_by_row(block: Block, columns: Columns, origin: Origin) -> Rows:
    """The same rows through Python's json, slowly, with the line and the reason of every bad one."""
    numbers: list[list[float]] = []
    texts: list[list[str]] = []
    index: list[int] = []
    bad: list[BadRow] = []
    for line, text in lines(block):
        row = parsed_row(text)
        reason = _reason(row, columns) if isinstance(row, tuple) else row
        if isinstance(row, tuple) and not reason:
            values = dict(row)
            index.append(len(numbers) + len(bad))
            numbers.append([float(str(values[name])) for name in columns.numeric])
            texts.append([_text(values[name]) for name in columns.texts])
        else:
            bad.append(BadRow(origin.name, line, reason))
    return rows_of_values(numbers, texts, index, columns, bad)


def lines(block: Block) -> Iterator[tuple[int, str]]:
    """The number and the text of every line that is not blank."""
    for number, line in enumerate(block.text.split(b"\n"), block.first_line):
        if text := line.strip(b" \t\r"):
            yield number, text.decode()


def parsed_row(text: str) -> "tuple[tuple[str, Value], ...] | str":
    """The pairs of the object that the text is, or why it is none."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        return f"the row is not JSON: {error.msg} (character {error.pos + 1})"
    except RecursionError:
        return "the row is nested too deeply"
    return value if isinstance(value, tuple) else "the row is no JSON object"


def _reason(row: tuple[tuple[str, Value], ...], columns: Columns) -> str:
    """Why a row cannot be used; empty where it can."""
    values = dict(row)
    names = [name for name, _ in row]
    for name in (*columns.numeric, *columns.texts):
        if names.count(name) != 1:
            return f"the row names {name!r} twice" if name in values else f"column {name!r} is missing"
    for name in columns.numeric:
        if reason := _reason_of_number(values[name]):
            return f"column {name!r} {reason}"
    if columns.label is not None and (reason := _reason_of_label(values[columns.label])):
        return f"column {columns.label!r} {reason}"
    return "" if columns.split is None else _reason_of_split(columns.split, values)


def _reason_of_number(value: Value) -> str:
    if value is None:
        return "is empty"
    if not isinstance(value, Number):
        return f"holds {_shown(value)}, not a number"
    if value in ("NaN", "Infinity", "-Infinity"):
        return f"holds {value}, not a finite number"
    return "" if abs(float(value)) < FLOAT32_LIMIT else f"holds {_shown(value)}, more than float32 can hold"


def _reason_of_label(value: Value) -> str:
    is_whole = isinstance(value, Number) and value.removeprefix("-").isdecimal()
    if is_whole or isinstance(value, bool):
        return ""
    if value is None:
        return reason_of_label("")
    if isinstance(value, Number) or not isinstance(value, str):
        return f"holds {_shown(value)}, which is no label: give a text or a whole number"
    return reason_of_label(value) if _is_unicode(value) else "holds half of a surrogate pair, which is no text"


def _reason_of_split(column: str, values: Mapping[str, Value]) -> str:
    value = values[column]
    return reason_of_split(column, value if isinstance(value, str) else _shown(value))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: Value) -> str:
    """A label or a split as text: whole numbers in digits, as pyarrow writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "0" if isinstance(value, Number) and value == "-0" else str(value)


def row_text(value: Value) -> str | None:
    """Any value as text, None for none and for an empty one."""
    if value is None or value == "":
        return None
    return _text(value).encode(errors="replace").decode() if isinstance(value, str | bool) else _shown(value)


def _shown(value: Value) -> str:
    """The beginning of a value as JSON writes it; of lists and objects only what they are."""
    if isinstance(value, list | tuple):
        return "a list" if isinstance(value, list) else "an object"
    return str(value)[:SHOWN] if isinstance(value, Number) else json.dumps(value)[:SHOWN]
