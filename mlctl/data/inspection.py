"""A first look at data that no recipe describes yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias

import pyarrow as pa
from PIL import Image
from pyarrow import compute
from pyarrow import csv as arrow_csv

from mlctl.data.columns import header_of
from mlctl.data.delimited_blocks import Block, blocks, count_rows, delimiter_of
from mlctl.data.images import FORMATS
from mlctl.data.origins import class_images
from mlctl.errors import DataError

SAMPLED_ROWS = 10_000
MOST_DISTINCT = 1_000

Kind: TypeAlias = Literal["integer", "float", "text"]


@dataclass(frozen=True)
class ColumnInspection:
    """A column, judged by the first 10,000 rows.

    `distinct` stops at 1,000; `minimum` and `maximum` are None for text. Empty values count for nothing.
    """

    name: str
    kind: Kind
    distinct: int
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True)
class TableInspection:
    """A table in delimited text."""

    columns: tuple[ColumnInspection, ...]
    rows: int


@dataclass(frozen=True)
class FolderInspection:
    """A folder of class folders; channels (1 or 3), height and width are those of the first image."""

    classes: tuple[str, ...]
    images: int
    channels: int
    height: int
    width: int


Inspection: TypeAlias = TableInspection | FolderInspection


def inspect(path: Path) -> Inspection:
    """What lies at `path`: a table in delimited text, plain or gzip, or a folder of class folders of images.

    Raises DataError for anything else.
    """
    return _inspect_folder(path) if path.is_dir() else _inspect_table(path)


def _inspect_folder(folder: Path) -> FolderInspection:
    images = class_images(folder)
    first = images[0][1]
    try:
        with Image.open(first, formats=FORMATS) as image:
            width, height = image.size
            channels = 1 if image.mode in ("1", "L", "LA") else 3
    except OSError as error:
        raise DataError("the image cannot be read", where=first, next="take the file out of the folder") from error
    return FolderInspection(tuple(sorted({label for label, _ in images})), len(images), channels, height, width)


def _inspect_table(path: Path) -> TableInspection:
    every = blocks(path)
    header, rest = header_of(next(every, Block(b"", 1, 0)), path)
    sample: list[pa.Table] = []
    rows = sampled = 0
    for block in chain((rest,), every):
        rows += count_rows(block, path)
        if sampled < SAMPLED_ROWS and block.text.strip(b"\r\n"):
            sample.append(_as_text(block, header, path))
            sampled += sample[-1].num_rows
    if not sample:
        raise DataError("the file has a header and no rows", where=path, next="give a file with rows")
    table = pa.concat_tables(sample).slice(0, SAMPLED_ROWS)
    return TableInspection(tuple(_inspect_column(name, table[name]) for name in header), rows)


def _as_text(block: Block, header: Sequence[str], path: Path) -> pa.Table:
    """The rows that have as many values as the header, all text, empty values null."""
    return arrow_csv.read_csv(
        pa.BufferReader(block.text),
        read_options=arrow_csv.ReadOptions(column_names=header, block_size=len(block.text) + 1),
        parse_options=arrow_csv.ParseOptions(
            delimiter=delimiter_of(path), newlines_in_values=True, invalid_row_handler=lambda row: "skip"
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()), null_values=[""], strings_can_be_null=True
        ),
    )


def _inspect_column(name: str, texts: pa.ChunkedArray) -> ColumnInspection:
    given = compute.drop_null(texts)
    distinct = min(compute.count_distinct(given).as_py(), MOST_DISTINCT)
    kinds: tuple[tuple[Kind, pa.DataType], ...] = (("integer", pa.int64()), ("float", pa.float64()))
    for kind, type_ in kinds if distinct else ():
        try:
            numbers = compute.cast(compute.utf8_trim_whitespace(given), type_)
        except pa.ArrowInvalid:
            continue
        finite = numbers if kind == "integer" else compute.filter(numbers, compute.is_finite(numbers))
        low, high = (end.cast(pa.float64()) for end in compute.min_max(finite).values())
        return ColumnInspection(name, kind, distinct, low.as_py(), high.as_py())
    return ColumnInspection(name, "text", distinct, None, None)
