"""Rows of named columns from a body of CSV (RFC 4180): with a header, as MLflow sends it, or without, as SageMaker."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mlctl.serving.protocols.bodies import text_of
from mlctl.serving.protocols.large_bodies import MOST_ROWS, require_few
from mlctl.serving.protocols.open_inference_tensors import quoted
from mlctl.serving.refusals import Malformed, TooLarge

_NUMBER: Final = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_MOST_CELLS: Final = 1 << 16
"""Of a line; models read fewer, and tables have no more than that beside."""
_MOST_LINES: Final = 16 * MOST_ROWS
_HEADER: Final = re.compile(r";\s*header=(present|absent)", re.IGNORECASE)


def rows_of(body: bytes, content_type: str, columns: Sequence[str]) -> list[Mapping[str, str]]:
    """The rows, their cells as text; at least one.

    The first line names the columns, unless the content type says `header=absent`, or says nothing and every cell of
    that line is a number while they are not the model's names of columns: then the cells are the model's `columns` in
    their order. Raises Malformed with the row, counted from 0, and TooLarge.
    """
    try:
        lines = _cells_of(text_of(body))
    except csv.Error as damage:
        raise Malformed(f"the body is not CSV: {damage}") from None
    if not lines:
        raise Malformed("the body has no rows")
    names, cells = (lines[0], lines[1:]) if _has_header(lines[0], content_type, columns) else (list(columns), lines)
    if len(set(names)) != len(names):
        raise Malformed(f"the header names a column twice: {quoted(','.join(names))}")
    require_few(len(cells))
    if not cells:
        raise Malformed("the body has a header, and no rows")
    for place, line in enumerate(cells):
        if len(line) != len(names):
            raise Malformed(f"row {place} has {len(line)} cells, and there are {len(names)} columns")
    return [dict(zip(names, line, strict=True)) for line in cells]


def _cells_of(text: str) -> list[list[str]]:
    """The cells of the lines that are not empty. Raises csv.Error, Malformed, TooLarge.

    Lists of cells are twenty times as large as their text: no more of them are made than may be answered, with a
    header, and none that go on after a line is longer than the first, which no right body's is.
    """
    found: list[list[str]] = []
    for line in csv.reader(_short_lines(text), strict=True):
        if line:
            if len(line) > _MOST_CELLS:
                raise Malformed(f"row {len(found)} has more than {_MOST_CELLS:,} cells")
            found.append(line)
            if len(found) > MOST_ROWS + 1 or len(line) > len(found[0]):
                break
    return found


def _short_lines(text: str) -> Iterator[str]:
    """The lines of the text, as `csv` wants them."""
    for place, line in enumerate(io.StringIO(text, newline="")):
        if place == _MOST_LINES:
            raise TooLarge(f"a body of CSV has at most {_MOST_LINES:,} lines, empty ones among them")
        if len(line) > _MOST_CELLS and line.count(",") >= _MOST_CELLS:
            raise Malformed(f"line {place + 1} has more than {_MOST_CELLS:,} cells")
        yield line


def _has_header(first: Sequence[str], content_type: str, columns: Sequence[str]) -> bool:
    said = _HEADER.search(content_type)
    if said:
        return said[1].lower() == "present"
    return set(first) == set(columns) or not all(map(_NUMBER.fullmatch, first))
