"""Tables: two ways through a block that must agree, and bad rows by their true line."""

import csv
import gzip
import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.data.classes import ClassNumbers
from mlctl.data.columns import Columns, bind
from mlctl.data.delimited_blocks import blocks, count_rows
from mlctl.data.delimited_rows import DELIMITED, header_of, open_delimited, parse, parse_row_by_row
from mlctl.data.origin import Origin
from mlctl.data.reading import Category, Number, Numbers, Reading
from mlctl.data.row_blocks import Block
from mlctl.data.table_rows import Rows
from mlctl.data.tables import TableFormat, table_batches
from mlctl.errors import DataError

READING = Reading("image-classification", (Numbers("features", ("a", "b")),), Category("label"))
ORIGIN = Origin(Path("table.csv"))
COLUMNS = bind(READING, None, ("a", "b", "label"), "table.csv")

numbers = st.one_of(
    st.integers(-1000, 1000).map(str),
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.sampled_from(["", " 7 ", "+1", "1.", ".5", "1e3", "1E-3", "0x1f", "1_000", "nan", "-Inf", "--1", "٣", "1e39"]),
)
labels = st.sampled_from(
    ["cat", "NaN", " -inf", "nano", 'the "big" one', "a,b", "two\nlines", "cr\rlf", "two\r\nlines", "", "  ", "ü"]
)


def is_label(text: str) -> bool:
    return text.strip().lower() not in ("", "nan", "-inf")


def quoted(value: str) -> str:
    doubled = value.replace('"', '""')
    return f'"{doubled}"' if set(value) & set('",\r\n') else value


good_or_bad_rows = st.tuples(numbers, numbers, labels.map(quoted)).map(",".join)
rows = st.one_of(good_or_bad_rows, st.sampled_from(["", "1", "1,2", "1,2,c,4", '1,2,five"inch', ",,", '1,2,"x"y']))
good_rows = st.tuples(st.floats(-1e9, 1e9).map(repr), st.integers().map(str), labels.filter(is_label).map(quoted)).map(
    ",".join
)
lists_of_rows = st.one_of(st.lists(rows, max_size=12), st.lists(good_rows, max_size=12))
tables = st.tuples(lists_of_rows, st.sampled_from(["\n", "\r\n"]), st.booleans()).map(
    lambda table: table[1].join(table[0]) + (table[1] if table[2] else "")
)


def kept(parsed: Rows) -> list[tuple[bytes, str, int]]:
    """Every usable row: its numbers' bytes, its label, its place."""
    label = parsed.texts[0]
    return [
        (values.tobytes(), label.values[code], int(index))
        for values, code, index in zip(parsed.numbers, label.codes, parsed.index, strict=True)
    ]


@given(tables)
def test_typed_columns_and_row_by_row_give_the_same_rows(text: str) -> None:
    block = Block(text.encode(), 2, 0)
    quickly, slowly = parse(block, COLUMNS, ORIGIN), parse_row_by_row(block, COLUMNS, ORIGIN)
    assert kept(quickly) == kept(slowly)
    assert quickly.bad == slowly.bad
    assert quickly.count == slowly.count


@given(tables)
def test_every_bad_row_has_the_line_that_a_plain_csv_reader_counts(text: str) -> None:
    expected = []
    reader = csv.reader(io.StringIO(text, newline="\n"))
    before = 0
    while True:
        try:
            row = next(reader, None)
            usable = row is not None and is_usable(row)
        except csv.Error:
            row, usable = ["malformed"], False
        if row is None:
            break
        if row and not usable:
            expected.append(before + 2)
        before = reader.line_num
    found = parse(Block(text.encode(), 2, 0), COLUMNS, ORIGIN).bad
    assert [bad.line for bad in found] == expected


def is_usable(row: list[str]) -> bool:
    """The rule in other words: three values, two of them plain decimal numbers that float32 holds, and a label."""
    plain = set("0123456789+-.eE \t")
    try:
        with np.errstate(over="ignore"):
            finite = [set(text) <= plain and bool(np.isfinite(np.float32(text.strip()))) for text in row[:2]]
    except ValueError:
        return False
    return len(row) == 3 and all(finite) and is_label(row[2])


@given(tables, st.integers(1, 40))
def test_blocks_of_any_size_hold_the_same_rows(tmp_path_factory: pytest.TempPathFactory, text: str, size: int) -> None:
    path = tmp_path_factory.mktemp("blocks") / "table.csv"
    path.write_bytes(text.encode())
    found = list(blocks(Origin(path), size))
    assert b"".join(block.text for block in found) == text.encode()
    assert [block.first_line for block in found] == [
        1 + sum(earlier.text.count(b"\n") for earlier in found[:index]) for index in range(len(found))
    ]
    whole = Block(text.encode(), 1, 0)
    assert (
        sum(parse(block, COLUMNS, Origin(path)).count for block in found) == parse(whole, COLUMNS, Origin(path)).count
    )


@given(st.lists(labels.map(lambda label: f"1,2,{quoted(label)}"), min_size=1), st.integers(1, 40))
def test_rows_are_counted_without_being_parsed(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], size: int
) -> None:
    path = tmp_path_factory.mktemp("count") / "table.csv"
    path.write_bytes("\n\n".join(lines).encode())
    assert sum(count_rows(block, Origin(path)) for block in blocks(Origin(path), size)) == len(lines)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,2", "the row has 2 values, the header 3"),
        ("1,2,c,4", "the row has 4 values, the header 3"),
        ("1,x,c", "column 'b' holds 'x', not a number"),
        (",2,c", "column 'a' is empty"),
        ("NaN,2,c", "column 'a' holds 'NaN', not a finite number"),
        ("-inf,2,c", "column 'a' holds '-inf', not a finite number"),
        ("1e39,2,c", "column 'a' holds '1e39', more than float32 can hold"),
        ("3.4028235677973366e38,2,c", "column 'a' holds '3.4028235677973366e38', more than float32 can hold"),
        ("1,2,", "column 'label' holds no label"),
        ("1,2,nan", "column 'label' holds 'nan', which is no label"),
        ("1,2,+Infinity", "column 'label' holds '+Infinity', which is no label"),
    ],
)
def test_a_bad_row_says_why(row: str, reason: str) -> None:
    parsed = parse(Block(f"1,2,c\n\n{row}\n".encode(), 2, 0), COLUMNS, ORIGIN)
    assert [str(bad) for bad in parsed.bad] == [f"table.csv:4: {reason}"]
    assert parsed.index.tolist() == [0]


def batches_of(path: Path, reading: Reading = READING, block_bytes: int = 64) -> tuple[Columns, list[list[float]]]:
    format = TableFormat(partial(open_delimited, block_bytes=block_bytes))
    columns = bind(reading, None, format.open(Origin(path)).header, str(path))
    values = [
        row
        for batch in table_batches(format, [Origin(path)], columns, ClassNumbers())
        for row in batch.inputs[0].tolist()
    ]
    return columns, values


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.tsv.gz", "t.TXT"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n\r\n"])
def test_plain_and_gzip_commas_and_tabs_with_or_without_a_mark(tmp_path: Path, name: str, start: bytes) -> None:
    rows_of_text = ["a,b,label"] + [f"{i},{i / 4},x" for i in range(50)]
    text = start + "\n".join(rows_of_text).replace(",", "\t" if ".tsv" in name else ",").encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    _, values = batches_of(tmp_path / name)
    assert values == [[i, i / 4] for i in range(50)]


def test_a_gzip_file_of_several_members_is_one_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b,label\n1,2,x\n") + gzip.compress(b"3,4,y\n"))
    assert batches_of(tmp_path / "t.csv.gz")[1] == [[1, 2], [3, 4]]


def test_globs_keep_the_header_order_and_never_take_the_target(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x10,x2,y,x1\n1,2,3,4\n")
    reading = Reading("regression", (Numbers("features", ("x2", "*")),), Number("y"))
    columns, values = batches_of(tmp_path / "t.csv", reading)
    assert columns.inputs[0].names == ("x2", "x10", "x1")
    assert values == [[2, 1, 4]]


GOOD = b"a,b,label\n" + b"1,2,x\n" * 200


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        ("t.csv", b"", "", "the file is empty"),
        ("t.csv", b"\n\n", "", "the file is empty"),
        ("t.csv", b"a,b,label\n", "", "a header and no rows"),
        ("t.csv", b"a,a,label\n1,2,3\n", "", "names 'a' twice"),
        ("t.csv", b"a,labell,b\n1,2,3\n", "", "no column matches 'label'; did you mean 'labell'?"),
        ("t.csv", b"a;b;label\n1;2;3\n", "", "no column matches 'label'"),
        ("t.csv", "a,b,label\n1,2,x\n1,2,ü\n".encode("latin-1"), ":3", "not UTF-8 (byte 0xfc)"),
        ("t.csv", "a,b,label\n1,2,x\n".encode("utf-16"), ":1", "not UTF-8 (byte 0xff)"),
        ("t.csv", b'a,b,label\n1,2,x\n\n1,2,"x\n1,2,x\n', ":4", "a quote is never closed"),
        ("t.csv", b"a,b,label\r1,2,x\r", "", "the header cannot be read"),
        ("t.csv.gz", gzip.compress(GOOD, mtime=0)[:-9], "", "breaks off"),
        ("t.csv.gz", GOOD, "", "not intact gzip"),
        ("t.csv.gz", gzip.compress(GOOD, mtime=0)[:-8] + b"12345678", "", "not intact gzip"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, where: str, what: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        batches_of(tmp_path / name)
    assert what in caught.value.what
    assert caught.value.where == f"{tmp_path / name}{where}"


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file") as caught:
        batches_of(tmp_path / "t.csv")
    assert caught.value.where == str(tmp_path / "t.csv")


def test_every_file_needs_the_same_header(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b,label\n1,2,x\n")
    (tmp_path / "2.csv").write_text("a,label,b\n1,x,2\n")
    columns = bind(READING, None, ("a", "b", "label"), "1.csv")
    origins = [Origin(tmp_path / "1.csv"), Origin(tmp_path / "2.csv")]
    with pytest.raises(DataError, match="column 2 is 'label', not 'b'") as caught:
        list(table_batches(DELIMITED, origins, columns, ClassNumbers()))
    assert caught.value.where == str(tmp_path / "2.csv")


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        (Numbers("i", ("pixel_*",)), "no column matches 'pixel_*'"),
        (Numbers("i", ("*",), shape=(2, 2)), r"2 columns match *, but the shape [2, 2] holds 4"),
        (Numbers("i", ("a", "label")), "'label' is an input and also the target"),
    ],
)
def test_columns_that_cannot_make_the_input_are_refused(inputs: Numbers, what: str) -> None:
    with pytest.raises(DataError) as caught:
        bind(Reading("image-classification", (inputs,), Category("label")), None, ("a", "b", "label"), "table.csv")
    assert what in caught.value.what


def test_a_header_may_hold_quotes_and_line_breaks() -> None:
    names, rest = header_of(Block(b'\n"a\nb","c,d"\r\n1,2\n', 1, 0), ORIGIN)
    assert names == ("a\nb", "c,d")
    assert (rest.text, rest.first_line) == (b"1,2\n", 4)
