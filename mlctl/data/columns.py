"""Which columns of a table a reading takes."""

import csv
import difflib
import io
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path

from mlctl.data.delimited_blocks import Block, delimiter_of
from mlctl.data.reading import Category, Number, Numbers, Reading
from mlctl.errors import DataError

_LISTED = 12


@dataclass(frozen=True)
class InputColumns:
    """One input's columns, in order, and the shape that a row's values fill."""

    names: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Columns:
    """A table's columns and their parts: inputs, a numeric target or a label, and the split's name."""

    header: tuple[str, ...]
    inputs: tuple[InputColumns, ...]
    target: str | None
    label: str | None
    split: str | None

    @property
    def numeric(self) -> tuple[str, ...]:
        """Every numeric column once, those of the inputs first."""
        names = [name for each in self.inputs for name in each.names]
        return tuple(dict.fromkeys(names + ([self.target] if self.target is not None else [])))

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that are read as text: the label's, then the split's."""
        return tuple(name for name in (self.label, self.split) if name is not None)


def header_of(first: Block, path: Path) -> tuple[tuple[str, ...], Block]:
    """The column names of the file's first row, and the block behind it.

    Raises DataError where there is no row, the row is malformed, or a name occurs twice.
    """
    reader = csv.reader(io.StringIO(first.text.decode(), newline="\n"), delimiter=delimiter_of(path))
    try:
        names = next((tuple(row) for row in reader if row), ())
    except csv.Error as error:
        raise DataError(f"the header cannot be read: {error}", where=path, next="mend the first row") from error
    if not names:
        raise DataError("the file is empty", where=path, next="give a file with a header and rows")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"the header names {twice[0]!r} twice", where=path, next="give every column its own name")
    lines = first.text.split(b"\n", reader.line_num)
    return names, first.after(len(first.text) - len(lines[-1]) if len(lines) > reader.line_num else len(first.text))


def bind(reading: Reading, split: str | None, header: tuple[str, ...], path: Path) -> Columns:
    """The columns that `reading` takes from a table with this header.

    Raises DataError for a name or a glob that matches no column, a shape that the columns do not fill, and a
    target that is also an input.
    """
    target, label = _target_columns(reading, path)
    reserved = tuple(name for name in (target, label, split) if name is not None)
    for name in reserved:
        if name not in header:
            raise _missing(name, header, path)
    inputs = tuple(_input_columns(each, header, reserved, path) for each in reading.inputs if isinstance(each, Numbers))
    if len(inputs) < len(reading.inputs):
        raise DataError("the source is a table, but no columns are named for its pixels", where=path, next="name them")
    return Columns(header, inputs, target, label, split)


def _target_columns(reading: Reading, path: Path) -> tuple[str | None, str | None]:
    match reading.target:
        case Number(column=column):
            return column, None
        case Category(column=None):
            raise DataError(
                "the source is a table, but no column is named for the label",
                where=path,
                next="name the column that holds the class",
            )
        case Category(column=column):
            return None, column
        case None:
            return None, None


def _input_columns(wanted: Numbers, header: tuple[str, ...], reserved: tuple[str, ...], path: Path) -> InputColumns:
    names: dict[str, None] = {}
    for pattern in wanted.columns:
        if pattern in reserved:
            what = f"column {pattern!r} is an input and also the target or the split"
            raise DataError(what, where=path, next="take it out of the inputs")
        matches = [pattern] if pattern in header else [name for name in header if fnmatchcase(name, pattern)]
        found = [name for name in matches if name not in reserved]
        if not found:
            raise _missing(pattern, header, path)
        names |= dict.fromkeys(found)
    shape = wanted.shape or (len(names),)
    if prod(shape) != len(names):
        raise DataError(
            f"{len(names)} columns match {', '.join(wanted.columns)}, but the shape {list(shape)} holds {prod(shape)}",
            where=path,
            next="make the columns and the shape agree",
        )
    return InputColumns(tuple(names), shape)


def _missing(name: str, header: tuple[str, ...], path: Path) -> DataError:
    close = difflib.get_close_matches(name, header, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    more = f" and {len(header) - _LISTED} more" if len(header) > _LISTED else ""
    return DataError(
        f"no column matches {name!r}{guess}",
        where=path,
        next=f"name one of the columns {', '.join(header[:_LISTED])}{more}",
    )
