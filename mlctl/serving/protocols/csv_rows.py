"""Rows of named columns from a body of CSV (RFC 4180): with a header, as MLflow sends it, or without, as SageMaker."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from mlctl.serving.protocols.bodies import text_of
from mlctl.serving.protocols.given_rows import MOST_ROWS, require_few
from mlctl.serving.protocols.open_inference_tensors import quoted
from mlctl.serving.refusals import Malformed

_NUMBER: Final = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_HEADER: Final = re.compile(r";\s*header=(present|absent)", re.IGNORECASE)


def rows_of(body: bytes, content_type: str, columns: Sequence[str]) -> list[Mapping[str, str]]:
    """The rows, their cells as text; at least one.

    The first line names the columns, unless the content type says `header=absent`, or says nothing and every cell of
    that line is a number while they are not the model's names of columns: then the cells are the model's `columns` in
    their order. Raises Malformed with the row, counted from 0, and TooLarge.
    """
    try:
        reader = csv.reader(io.StringIO(text_of(body), newline=""), strict=True)
        # Lists of cells are twenty times as large as their text: no more of them than may be answered, with a header.
        lines = list(islice((line for line in reader if line), MOST_ROWS + 2))
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


def _has_header(first: Sequence[str], content_type: str, columns: Sequence[str]) -> bool:
    said = _HEADER.search(content_type)
    if said:
        return said[1].lower() == "present"
    return set(first) == set(columns) or not all(map(_NUMBER.fullmatch, first))
