"""Which columns of a table a reading takes."""

import difflib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod

from mlctl.data.reading import Category, EveryArray, Number, Numbers, Reading
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


def bind(reading: Reading, split: str | None, header: tuple[str, ...], file: str) -> Columns:
    """The columns that `reading` takes from a table with this header; messages call the file `file`.

    Raises DataError for a name or a glob that matches no column, a shape that the columns do not fill, a target that
    is also an input, and a reading of what is no table.
    """
    if reading.inputs == (EveryArray(),):
        what = f"the task {reading.task} reads files of arrays"
        raise DataError(what, where=file, next="give files that end in .npz")
    target, label = _target_columns(reading, file)
    reserved = tuple(name for name in (target, label, split) if name is not None)
    for name in reserved:
        if name not in header:
            raise _missing(name, header, file)
    inputs = tuple(_input_columns(each, header, reserved, file) for each in reading.inputs if isinstance(each, Numbers))
    if len(inputs) < len(reading.inputs):
        raise DataError("the source is a table, but no columns are named for its pixels", where=file, next="name them")
    return Columns(header, inputs, target, label, split)


def _target_columns(reading: Reading, file: str) -> tuple[str | None, str | None]:
    match reading.target:
        case Number(column=column):
            return column, None
        case Category(column=None):
            raise DataError(
                "the source is a table, but no column is named for the label",
                where=file,
                next="name the column that holds the class",
            )
        case Category(column=column):
            return None, column
        case None:
            return None, None


def _input_columns(wanted: Numbers, header: tuple[str, ...], reserved: tuple[str, ...], file: str) -> InputColumns:
    names: dict[str, None] = {}
    for pattern in wanted.columns:
        if pattern in reserved:
            what = f"column {pattern!r} is an input and also the target or the split"
            raise DataError(what, where=file, next="take it out of the inputs")
        matches = [pattern] if pattern in header else [name for name in header if fnmatchcase(name, pattern)]
        found = [name for name in matches if name not in reserved]
        if not found:
            raise _missing(pattern, header, file)
        names |= dict.fromkeys(found)
    shape = wanted.shape or (len(names),)
    if prod(shape) != len(names):
        raise DataError(
            f"{len(names)} columns match {', '.join(wanted.columns)}, but the shape {list(shape)} holds {prod(shape)}",
            where=file,
            next="make the columns and the shape agree",
        )
    return InputColumns(tuple(names), shape)


def _missing(name: str, header: tuple[str, ...], file: str) -> DataError:
    close = difflib.get_close_matches(name, header, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    more = f" and {len(header) - _LISTED} more" if len(header) > _LISTED else ""
    return DataError(
        f"no column matches {name!r}{guess}",
        where=file,
        next=f"name one of the columns {', '.join(header[:_LISTED])}{more}",
    )
