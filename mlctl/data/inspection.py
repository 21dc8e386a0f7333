"""A first look at data that no recipe describes yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias

import pyarrow as pa
from PIL import Image
from pyarrow import compute, parquet
from pyarrow import csv as arrow_csv

from mlctl.data.delimited_blocks import blocks, count_rows, delimiter_of
from mlctl.data.delimited_rows import header_of
from mlctl.data.image_decoding import FORMATS
from mlctl.data.json_rows import lines, open_json_lines, parsed_row, row_text
from mlctl.data.origin import Origin
from mlctl.data.origins import origins_at
from mlctl.data.parquet_rows import damage_told, open_parquet
from mlctl.data.row_blocks import Block, row_blocks
from mlctl.data.source_delimited import DelimitedText
from mlctl.data.source_images import ImageFiles
from mlctl.data.source_json_lines import JsonLines
from mlctl.data.source_parquet import ParquetFiles
from mlctl.data.sources import kind_of, source_of
from mlctl.errors import DataError

SAMPLED_ROWS = 10_000
MOST_DISTINCT = 1_000

Sample: TypeAlias = dict[str, pa.ChunkedArray]
"""The texts of every column, in order; empty ones are null."""
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
    """A table, whatever its format."""

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
    """What lies at `path`: a table of any format, or a folder of class folders of images.

    Raises DataError for anything else.
    """
    if path.is_dir():
        return _inspect_folder(path)
    origin = Origin(path)
    samples = {DelimitedText: _delimited, JsonLines: _json_lines, ParquetFiles: _parquet}
    sample = samples.get(type(kind_of(origin)))
    if sample is None:
        raise DataError("this is no table", where=path, next="give a table, or a folder of class folders of images")
    columns, rows = sample(origin)
    if not rows:
        raise DataError("the file has a header and no rows", where=path, next="give a file with rows")
    return TableInspection(tuple(_inspect_column(name, column) for name, column in columns.items()), rows)


def _inspect_folder(folder: Path) -> FolderInspection:
    kind, images = source_of(tuple(origins_at(folder, None)))
    first = images[0].path
    if not isinstance(kind, ImageFiles):
        what = f"the folder holds {kind.name}, and no class folders with images"
        raise DataError(what, where=folder, next="write the recipe by hand; the files say by themselves what they hold")
    try:
        with Image.open(first, formats=FORMATS) as image:
            width, height = image.size
            channels = 1 if image.mode in ("1", "L", "LA") else 3
    except OSError as error:
        raise DataError("the image cannot be read", where=first, next="take the file out of the folder") from error
    classes = sorted({each.label for each in images if each.label is not None})
    return FolderInspection(tuple(classes), len(images), channels, height, width)


def _delimited(origin: Origin) -> tuple[Sample, int]:
    every = blocks(origin)
    header, rest = header_of(next(every, Block(b"", 1, 0)), origin)
    sample: list[pa.Table] = []
    rows = sampled = 0
    for block in chain((rest,), every):
        rows += count_rows(block, origin)
        if sampled < SAMPLED_ROWS and block.text.strip(b"\r\n"):
            sample.append(_as_text(block, header, origin))
            sampled += sample[-1].num_rows
    if not sample:
        return {}, 0
    table = pa.concat_tables(sample).slice(0, SAMPLED_ROWS)
    return {name: table[name] for name in header}, rows


def _json_lines(origin: Origin) -> tuple[Sample, int]:
    columns: dict[str, list[str | None]] = {name: [] for name in open_json_lines(origin).header}
    rows = 0
    for block in row_blocks(origin, lambda text: text.rfind(b"\n") + 1, lambda rest: True):
        for _, text in lines(block):
            rows += 1
            row = parsed_row(text) if rows <= SAMPLED_ROWS else ()
            if isinstance(row, tuple) and row:
                values = dict(row)
                for name, column in columns.items():
                    column.append(row_text(values.get(name)))
    return {name: pa.chunked_array([pa.array(values, pa.string())]) for name, values in columns.items()}, rows


def _parquet(origin: Origin) -> tuple[Sample, int]:
    header = open_parquet(origin).header
    with damage_told(origin), parquet.ParquetFile(origin.path) as file:
        first = next(file.iter_batches(batch_size=SAMPLED_ROWS), None)
        texts = {name: _column_text(first.column(name)) for name in header} if first is not None else {}
        return texts, file.metadata.num_rows


def _column_text(column: pa.Array) -> pa.ChunkedArray:
    """Values as text; of what has none, such as lists, nothing but that it is not empty."""
    try:
        texts = compute.cast(column, pa.string())
        return pa.chunked_array([compute.if_else(compute.equal(texts, ""), None, texts)])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.chunked_array([pa.array(["?"] * len(column))])


def _as_text(block: Block, header: Sequence[str], origin: Origin) -> pa.Table:
    """The rows that have as many values as the header, all text, empty values null."""
    return arrow_csv.read_csv(
        pa.BufferReader(block.text),
        read_options=arrow_csv.ReadOptions(column_names=header, block_size=len(block.text) + 1),
        parse_options=arrow_csv.ParseOptions(
            delimiter=delimiter_of(origin), newlines_in_values=True, invalid_row_handler=lambda row: "skip"
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
