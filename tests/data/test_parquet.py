"""Parquet: numbers and texts of any of its types, bad rows by their number, memory that stays flat."""

import datetime
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peak_memory import peak_of_preparing
from pyarrow import parquet

from mlctl.data.batches import Batch
from mlctl.data.classes import ClassNumbers
from mlctl.data.columns import bind
from mlctl.data.origin import Origin
from mlctl.data.parquet_rows import PARQUET, open_parquet
from mlctl.data.reading import Category, Number, Numbers, Reading
from mlctl.data.tables import TableFormat, table_batches
from mlctl.errors import DataError

REGRESSION = Reading("regression", (Numbers("features", ("x*",)),), Number("y"))
CLASSES = Reading("image-classification", (Numbers("features", ("x*",)),), Category("c"))


def batches_of(path: Path, reading: Reading, split: str | None = None, batch_bytes: int = 4096) -> list[Batch]:
    format = TableFormat(partial(open_parquet, batch_bytes=batch_bytes))
    columns = bind(reading, split, format.open(Origin(path)).header, str(path))
    return list(table_batches(format, [Origin(path)], columns, ClassNumbers()))


def labels_of(path: Path) -> list[str]:
    classes = ClassNumbers()
    columns = bind(CLASSES, None, PARQUET.open(Origin(path)).header, str(path))
    targets = np.concatenate([each.targets for each in table_batches(PARQUET, [Origin(path)], columns, classes)])
    return [classes.labels()[number] for number in classes.renumbered(targets.astype(np.int64))]


def write(path: Path, rows_in_a_group: int | None = None, /, **columns: Any) -> None:
    parquet.write_table(pa.table(columns), path, row_group_size=rows_in_a_group)


NUMBER_TYPES = [
    pa.int8(), pa.int64(), pa.uint16(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(9, 2),
    pa.dictionary(pa.int8(), pa.float64()),
]  # fmt: skip


@pytest.mark.parametrize("kind", NUMBER_TYPES, ids=str)
def test_every_type_of_numbers_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    values = [1, 2, 3, 100] if pa.types.is_integer(kind) else [1.0, 2.25, 0.5, -3.0]
    column = (
        pa.array([pa.scalar(each).as_py() for each in values], pa.float64()) if values[1] == 2.25 else pa.array(values)
    )
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    write(tmp_path / "t.parquet", x=column, y=pa.array([0, 0, 0, 0]))
    (batch,) = batches_of(tmp_path / "t.parquet", REGRESSION)
    assert batch.inputs[0].dtype == np.float32
    assert batch.inputs[0][:, 0].tolist() == values


def test_a_whole_number_beyond_float64_is_rounded_as_in_a_table_of_text(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", x=pa.array([2**62 + 1]), y=pa.array([0]))
    (batch,) = batches_of(tmp_path / "t.parquet", REGRESSION)
    assert batch.inputs[0][0, 0] == float(2**62)


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        (pa.array(["b", "a", "b"]), ["b", "a", "b"]),
        (pa.array(["b", "a", "b"], pa.large_string()), ["b", "a", "b"]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ["b", "a", "b"]),
        (pa.array([10, 9, -1], pa.int16()), ["10", "9", "-1"]),
        (pa.array([True, False, True]), ["true", "false", "true"]),
    ],
)
def test_labels_are_texts_whole_numbers_or_truths(tmp_path: Path, column: pa.Array, labels: list[str]) -> None:
    write(tmp_path / "t.parquet", x=pa.array([1, 2, 3]), c=column)
    assert labels_of(tmp_path / "t.parquet") == labels


odd_numbers = st.one_of(st.none(), st.floats(width=64), st.sampled_from([math.nan, math.inf, 3.5e38, -3.4e38]))
texts = st.sampled_from(["NaN", "train", "test", "validation", "dev", "", "  ", None])


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(odd_numbers, odd_numbers, texts, texts), min_size=1, max_size=40),
    batch_bytes=st.integers(1, 400),
    rows_in_a_group=st.integers(1, 50),
)
def test_usable_rows_are_kept_and_every_other_one_is_named(
    tmp_path_factory: pytest.TempPathFactory,
    rows: Sequence[tuple[float | None, float | None, str | None, str | None]],
    batch_bytes: int,
    rows_in_a_group: int,
) -> None:
    path = tmp_path_factory.mktemp("rows") / "t.parquet"
    columns = list(zip(*rows, strict=True))
    write(
        path,
        rows_in_a_group,
        x1=pa.array(columns[0], pa.float64()),
        x2=pa.array(columns[1], pa.float64()),
        c=pa.array(columns[2], pa.string()),
        s=pa.array(columns[3], pa.string()),
    )
    usable = [place for place, row in enumerate(rows) if is_usable(row)]
    batches = batches_of(path, CLASSES, "s", batch_bytes)
    assert [row for batch in batches for row in batch.rows.tolist()] == usable
    found = np.concatenate([batch.inputs[0] for batch in batches])
    assert found.tolist() == [[np.float32(rows[place][0]), np.float32(rows[place][1])] for place in usable]
    assert [bad.line for batch in batches for bad in batch.bad] == [
        place + 1 for place in range(len(rows)) if place not in usable
    ]
    assert batches[-1].position == path.stat().st_size


def is_usable(row: tuple[float | None, float | None, str | None, str | None]) -> bool:
    with np.errstate(over="ignore"):
        are_finite = all(each is not None and np.isfinite(np.float32(each)) for each in row[:2])
    return are_finite and (row[2] or "").strip() not in ("", "NaN") and row[3] in ("train", "validation", "test")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((None, "a", "train"), "column 'x' is empty"),
        ((math.nan, "a", "train"), "column 'x' holds nan, not a finite number"),
        ((-math.inf, "a", "train"), "column 'x' holds -inf, not a finite number"),
        ((1e39, "a", "train"), "column 'x' holds 1e+39, more than float32 can hold"),
        ((1.0, None, "train"), "column 'c' holds no label"),
        ((1.0, " ", "train"), "column 'c' holds no label"),
        ((1.0, "-inf", "train"), "column 'c' holds '-inf', which is no label"),
        ((1.0, "a", "dev"), "column 's' holds 'dev', not train, validation or test"),
        ((1.0, "a", None), "column 's' holds '', not train, validation or test"),
    ],
)
def test_a_bad_row_says_why(tmp_path: Path, row: tuple[float | None, str | None, str | None], reason: str) -> None:
    good = (1.0, "a", "test")
    x, c, s = zip(good, good, row, good, strict=True)
    write(tmp_path / "t.parquet", 2, x=pa.array(x), c=pa.array(c, pa.string()), s=pa.array(s, pa.string()))
    batches = batches_of(tmp_path / "t.parquet", CLASSES, "s")
    assert [str(bad) for batch in batches for bad in batch.bad] == [f"{tmp_path}/t.parquet:3: {reason}"]


@pytest.mark.parametrize(
    ("columns", "reading", "what"),
    [
        ({"x": ["1"], "y": [1]}, REGRESSION, "column 'x' is of the type string, and holds no numbers"),
        ({"x": [True], "y": [1]}, REGRESSION, "column 'x' is of the type bool, and holds no numbers"),
        ({"x": [[1]], "y": [1]}, REGRESSION, "column 'x' is of the type list<element: int64>, and holds no numbers"),
        (
            {"x": [1], "y": [datetime.date(2000, 1, 1)]},
            REGRESSION,
            "'y' is of the type date32[day], and holds no numbers",
        ),
        ({"x": [1], "c": [1.5]}, CLASSES, "column 'c' is of the type double, and holds no labels"),
        ({"x": [1], "c": [b"a"]}, CLASSES, "column 'c' is of the type binary, and holds no labels"),
        ({"x1": [1], "d": ["a"]}, CLASSES, "no column matches 'c'"),
    ],
)
def test_a_column_of_another_type_is_refused_by_name(
    tmp_path: Path, columns: dict[str, list[Any]], reading: Reading, what: str
) -> None:
    write(tmp_path / "t.parquet", None, **columns)
    with pytest.raises(DataError) as caught:
        batches_of(tmp_path / "t.parquet", reading)
    assert what in caught.value.what
    assert caught.value.where == str(tmp_path / "t.parquet")


def test_a_name_that_two_columns_have_is_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table([pa.array([1]), pa.array([2])], names=["x", "x"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="two columns are called 'x'"):
        batches_of(tmp_path / "t.parquet", REGRESSION)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", x=pa.array([], pa.int8()), y=pa.array([], pa.int8()))
    with pytest.raises(DataError, match="no rows"):
        batches_of(tmp_path / "t.parquet", REGRESSION)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), change=st.integers(0, 255))
def test_a_damaged_file_is_read_or_refused_and_a_cut_one_refused(
    tmp_path_factory: pytest.TempPathFactory, share: float, change: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "t.parquet"
    write(path, 50, x=pa.array(np.arange(200.0)), y=pa.array(["a", "b"] * 100).dictionary_encode().indices)
    content = bytearray(path.read_bytes())
    place = int(len(content) * share)
    if change:
        content[place] ^= change
    else:
        del content[place:]
    path.write_bytes(content)
    found = batches_or_refusal(path)
    if isinstance(found, DataError):
        assert str(found.where).startswith(str(path))
    else:
        assert change
        assert sum(len(batch) + len(batch.bad) for batch in found) == 200


def batches_or_refusal(path: Path) -> list[Batch] | DataError:
    try:
        return batches_of(path, REGRESSION)
    except DataError as error:
        return error


def write_table_of(path: Path, rows: int) -> None:
    """200 columns of random numbers and one to predict, in one group of rows and in small pages."""
    values = np.random.default_rng(0).random(rows).astype(np.float32)
    table = pa.table({**{f"x{place}": np.roll(values, place) for place in range(200)}, "y": values})
    # A page of every column is in memory at a time; of a megabyte, as by default, both tables would be one page.
    parquet.write_table(table, path / "t.parquet", row_group_size=rows, use_dictionary=False, data_page_size=1 << 14)


def write_lines_of(path: Path, rows: int) -> None:
    line = "{" + "".join(f'"x{place}":1.5,' for place in range(200)) + '"y":1}\n'
    (path / "t.jsonl").write_text(line * rows)


@pytest.mark.parametrize("make", [write_table_of, write_lines_of])
def test_memory_is_bounded_by_batches_and_not_by_the_data(tmp_path: Path, make: Any) -> None:
    """Three times the data may only cost the few bytes per row that say where each row goes."""
    peaks = []
    for name, rows in (("small", 40_000), ("large", 120_000)):
        (tmp_path / name).mkdir()
        make(tmp_path / name, rows)
        peaks.append(peak_of_preparing(tmp_path / name))
    # In kB. 80,000 rows more are 64,000 of inputs, and of text in JSON 160,000; none of it may stay. A row's target,
    # split and place are 13 bytes, 1,040 in all; the rest of the room is for blocks in flight, which vary by 10 MB.
    assert peaks[1] - peaks[0] < 24_000
