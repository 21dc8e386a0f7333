"""A block of a table's rows as numbers and texts, whatever format they come from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from mlctl.data.batches import BadRow
from mlctl.data.columns import Columns
from mlctl.data.numbers import SHOWN
from mlctl.recipe.prepare import SPLITS

_NOT_FINITE = re.compile(r"\s*[+-]?(nan|inf|infinity)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class TextColumn:
    """Texts as a table of values and, for every row, the value's position in it, int64 [rows]."""

    values: tuple[str, ...]
    codes: NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """The usable rows of a block.

    `numbers` is float32 [rows, numeric columns]; `texts` has one entry for each text column; `index` is int64 [rows],
    the row's place among all `count` rows of the block.
    """

    numbers: NDArray[np.float32]
    texts: tuple[TextColumn, ...]
    index: NDArray[np.int64]
    count: int
    bad: tuple[BadRow, ...]


def no_rows(columns: Columns) -> Rows:
    """A block without any."""
    return rows_of_values([], [], [], columns)


def rows_of_table(table: pa.Table, columns: Columns) -> Rows | None:
    """All rows of a table of float64 and string columns, or None where at least one of them needs a closer look."""
    if any(table[name].null_count for name in columns.texts):
        return None
    numbers = np.empty((table.num_rows, len(columns.numeric)), dtype=np.float32)
    with np.errstate(over="ignore"):
        for position, name in enumerate(columns.numeric):
            numbers[:, position] = table[name].to_numpy()  # a null becomes NaN
    texts = tuple(_text_column(table[name].combine_chunks()) for name in columns.texts)
    labels_are_given = columns.label is None or not any(map(reason_of_label, texts[0].values))
    splits_are_known = columns.split is None or set(texts[-1].values) <= set(SPLITS)
    if not (labels_are_given and splits_are_known and np.isfinite(numbers).all()):
        return None
    return Rows(numbers, texts, np.arange(table.num_rows), table.num_rows, ())


def _text_column(column: pa.Array) -> TextColumn:
    encoded = compute.dictionary_encode(column)
    return TextColumn(tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy().astype(np.int64))


def rows_of_values(
    numbers: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]],
    index: Sequence[int],
    columns: Columns,
    bad: Sequence[BadRow] = (),
) -> Rows:
    """The same from values row by row; `index` are the usable rows' places among these and the `bad` ones."""
    return Rows(
        np.array(numbers, dtype=np.float64).astype(np.float32).reshape(len(numbers), len(columns.numeric)),
        tuple(TextColumn(tuple(row[i] for row in texts), np.arange(len(texts))) for i in range(len(columns.texts))),
        np.array(index, dtype=np.int64),
        len(numbers) + len(bad),
        tuple(bad),
    )


def reason_of_label(label: str) -> str:
    """Why a text is no label; empty where it is one."""
    if not label.strip():
        return "holds no label"
    # What a table holds where a label was missing, or came out of a broken computation, is no class of its own.
    return f"holds {label!r}, which is no label" if _NOT_FINITE.fullmatch(label) else ""


def reason_of_split(column: str, value: str) -> str:
    """Why a column that names splits cannot hold the text; empty where it can."""
    known = f"{', '.join(SPLITS[:-1])} or {SPLITS[-1]}"
    return "" if value in SPLITS else f"column {column!r} holds {value[:SHOWN]!r}, not {known}"
