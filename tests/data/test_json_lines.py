"""Lines of JSON: two ways through a block that must agree, and bad rows by their true line."""

import gzip
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlctl.data.classes import ClassNumbers
from mlctl.data.columns import bind
from mlctl.data.json_rows import JSON_LINES, open_json_lines, parse, parse_row_by_row
from mlctl.data.origin import Origin
from mlctl.data.reading import Category, Number, Numbers, Reading
from mlctl.data.row_blocks import Block
from mlctl.data.table_rows import Rows
from mlctl.data.tables import TableFormat, table_batches
from mlctl.errors import DataError

READING = Reading("image-classification", (Numbers("features", ("a", "b")),), Category("label"))
ORIGIN = Origin(Path("t.jsonl"))
COLUMNS = bind(READING, "part", ("a", "b", "label", "part"), "t.jsonl")

numbers = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        ["-0", "-0.0", "1e39", "1E-3", "1e400", "9" * 400, "NaN", "-Infinity", "null", '"1"', "true", "[1]"]
    ),
)
labels = st.one_of(
    st.integers().map(str),
    st.text(st.characters(exclude_categories=["Cs"])).map(json.dumps),
    st.sampled_from(
        [
            "-0",
            "1.0",
            "1e2",
            "true",
            "false",
            "null",
            '"nan"',
            '"nano"',
            '""',
            '" "',
            '"\\ud800"',
            '"\\ud83d\\ude00"',
            '"ü"',
            "{}",
        ]
    ),
)
splits = st.sampled_from(['"train"', '"test"', '"validation"', '"dev"', "null", "3"])
rows = st.tuples(numbers, numbers, labels, splits).map(
    lambda row: f'{{"a": {row[0]}, "b": {row[1]}, "label": {row[2]}, "part": {row[3]}, "more": {{"a": [1]}}}}'
)
good_rows = st.tuples(
    st.floats(-1e9, 1e9).map(repr), st.integers(-9, 9).map(str), st.sampled_from(['"x"', '"y z"'])
).map(lambda row: f'{{"part": "train", "label": {row[2]}, "b":{row[1]},"a":{row[0]}}}')
odd_lines = st.sampled_from(
    ["", "  \t", "{", "}", "[1]", "7", '{"a": 1}', '{"a": 1}{"b": 2}', "nonsense", '{"a": 1, "a": 2}', "{}", " {} "]
)
tables = st.tuples(
    st.one_of(st.lists(st.one_of(rows, odd_lines), max_size=8), st.lists(good_rows, max_size=8)),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
).map(lambda table: table[1].join(table[0]) + (table[1] if table[2] else ""))


def kept(parsed: Rows) -> list[tuple[bytes, list[str], int]]:
    """Every usable row: its numbers' bytes, its texts, its place."""
    return [
        (values.tobytes(), [text.values[text.codes[place]] for text in parsed.texts], int(index))
        for place, (values, index) in enumerate(zip(parsed.numbers, parsed.index, strict=True))
    ]


@given(tables)
@example('{"a": 1, "b": -0, "label": 3, "part": "train"}\n{"a": 1,\n"b": 2, "label": 3, "part": "train"}')
@example('{"a": 1, "b": 2, "label": 1, "part": "test"}{"a": 1, "b": 2, "label": 1, "part": "test"}')
def test_typed_columns_and_row_by_row_give_the_same_rows(text: str) -> None:
    block = Block(text.encode(), 2, 0)
    quickly, slowly = parse(block, COLUMNS, ORIGIN), parse_row_by_row(block, COLUMNS, ORIGIN)
    assert kept(quickly) == kept(slowly)
    assert quickly.bad == slowly.bad
    assert quickly.count == slowly.count


def test_rows_that_are_as_they_should_be_are_parsed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("mlctl.data.json_rows.parse_row_by_row")
    for label in ('"x"', "7", "true"):
        text = f'{{"a": 1, "b": 2.5, "label": {label}, "part": "test", "z": {{}}}}\r\n' * 100
        parsed = parse(Block(text.encode(), 1, 0), COLUMNS, ORIGIN)
        assert (parsed.count, parsed.texts[0].values) == (100, (label.strip('"'),))


@given(tables)
def test_a_row_is_usable_where_a_plain_json_reader_finds_numbers_a_label_and_a_split(text: str) -> None:
    expected = [
        number for number, line in enumerate(text.split("\n"), 2) if line.strip(" \t\r") and not is_usable(line)
    ]
    assert [bad.line for bad in parse(Block(text.encode(), 2, 0), COLUMNS, ORIGIN).bad] == expected


def is_usable(line: str) -> bool:
    """The rule in other words."""
    try:
        row = json.loads(line, object_pairs_hook=lambda pairs: pairs if len(dict(pairs)) == len(pairs) else None)
    except ValueError:
        return False
    if not isinstance(row, list) or not all(isinstance(pair, tuple) for pair in row):
        return False
    values = dict(row)
    with np.errstate(over="ignore"):
        are_finite = [
            isinstance(values.get(name), int | float)
            and not isinstance(values[name], bool)
            and abs(values[name]) < 1e39
            and bool(np.isfinite(np.float32(values[name])))
            for name in ("a", "b")
        ]
    label = values.get("label")
    is_text = (
        isinstance(label, str)
        and label.strip().lower().lstrip("+-") not in ("", "nan", "inf", "infinity")
        and label.encode(errors="replace").decode() == label
    )
    return (
        all(are_finite)
        and (is_text or isinstance(label, int))
        and values.get("part") in ("train", "validation", "test")
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"a": 1, "b": 2, "label": "c"', "the row is not JSON: Expecting ',' delimiter (character 30)"),
        ("[1, 2]", "the row is no JSON object"),
        ('{"a": 1, "label": "c"}', "column 'b' is missing"),
        ('{"a": 1, "b": 2, "a": 3, "label": "c"}', "the row names 'a' twice"),
        ('{"a": null, "b": 2, "label": "c"}', "column 'a' is empty"),
        ('{"a": "1", "b": 2, "label": "c"}', """column 'a' holds "1", not a number"""),
        ('{"a": [1], "b": 2, "label": "c"}', "column 'a' holds a list, not a number"),
        ('{"a": {"b": 2}, "b": 2, "label": "c"}', "column 'a' holds an object, not a number"),
        ('{"a": true, "b": 2, "label": "c"}', "column 'a' holds true, not a number"),
        ('{"a": NaN, "b": 2, "label": "c"}', "column 'a' holds NaN, not a finite number"),
        ('{"a": 1, "b": -Infinity, "label": "c"}', "column 'b' holds -Infinity, not a finite number"),
        ('{"a": 1, "b": 1e39, "label": "c"}', "column 'b' holds 1e39, more than float32 can hold"),
        ('{"a": 1, "b": 2, "label": ""}', "column 'label' holds no label"),
        (
            '{"a": 1, "b": 2, "label": 1.5}',
            "column 'label' holds 1.5, which is no label: give a text or a whole number",
        ),
        (
            '{"a": 1, "b": 2, "label": NaN}',
            "column 'label' holds NaN, which is no label: give a text or a whole number",
        ),
        ('{"a": 1, "b": 2, "label": "\\udc00"}', "column 'label' holds half of a surrogate pair, which is no text"),
        (f'{{"a": {"[" * 99_999}', "the row is nested too deeply"),
    ],
)
def test_a_bad_row_says_why(row: str, reason: str) -> None:
    columns = bind(READING, None, ("a", "b", "label"), "t.jsonl")
    parsed = parse(Block(f'{{"a": 1, "b": 2, "label": "c"}}\n\n{row}\n'.encode(), 2, 0), columns, ORIGIN)
    assert [str(bad) for bad in parsed.bad] == [f"t.jsonl:4: {reason}"]
    assert parsed.index.tolist() == [0]


def values_of(path: Path, reading: Reading = READING, block_bytes: int = 64) -> list[list[float]]:
    format = TableFormat(partial(open_json_lines, block_bytes=block_bytes), JSON_LINES.rows_name_columns)
    columns = bind(reading, None, format.open(Origin(path)).header, str(path))
    batches = table_batches(format, [Origin(path)], columns, ClassNumbers())
    return [row for batch in batches for row in batch.inputs[0].tolist()]


def compressed(name: str, content: bytes) -> bytes:
    import pyarrow as pa

    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True) if name.endswith("zst") else content
    return gzip.compress(content) if name.endswith("gz") else packed


@pytest.mark.parametrize("name", ["t.jsonl", "t.ndjson.gz", "t.jsonl.zst"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n \n"])
def test_blocks_of_any_size_and_compression_hold_the_same_rows(tmp_path: Path, name: str, start: bytes) -> None:
    text = "".join(f'{{"a": {i}, "b": {i / 4}, "label": "x"}}\n' for i in range(50))
    (tmp_path / name).write_bytes(compressed(name, start + text.encode()))
    for block_bytes in (1, 64, 10_000):
        assert values_of(tmp_path / name, block_bytes=block_bytes) == [[i, i / 4] for i in range(50)]


def test_globs_take_the_keys_of_the_first_object_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(
        '{"x10": 1, "x2": 2, "y": 3, "x1": 4}\n{"y": 0, "x1": 5, "x2": 6, "x3": 9, "x10": 7}\n'
    )
    reading = Reading("regression", (Numbers("features", ("x2", "*")),), Number("y"))
    assert values_of(tmp_path / "t.jsonl", reading) == [[2, 1, 4], [6, 7, 5]]


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (b"", "", "the file is empty"),
        (b"\n \n", "", "the file is empty"),
        (b"a,b\n1,2\n", ":1", "the first row is no JSON object"),
        (b'\n[{"a": 1}]\n', ":2", "the first row is no JSON object"),
        (b'{"a": 1, "b": 2, "labell": 3}\n', "", "no column matches 'label'; did you mean 'labell'?"),
        ('{"a": 1, "b": 2, "label": "ü"}\n'.encode("latin-1"), ":1", "not UTF-8 (byte 0xfc)"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path, content: bytes, where: str, what: str) -> None:
    (tmp_path / "t.jsonl").write_bytes(content)
    with pytest.raises(DataError) as caught:
        values_of(tmp_path / "t.jsonl")
    assert what in caught.value.what
    assert caught.value.where == f"{tmp_path / 't.jsonl'}{where}"
