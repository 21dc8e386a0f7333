"""Rows of named columns, sent in place of tensors."""

from math import nextafter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from natural_models import natural

from mlctl.data.columns import Columns, InputColumns
from mlctl.data.delimited_rows import parse_row_by_row
from mlctl.data.origin import Origin
from mlctl.data.row_blocks import Block
from mlctl.runtime.running import Port
from mlctl.serving.natural.values import Natural
from mlctl.serving.refusals import Malformed, WrongMedia
from mlctl.serving.signature import InputMeaning, Meaning

OUTPUT = (Port("prediction", "float32", (None,)),)


def table(*columns: str, dtype: str = "float32") -> Natural:
    port = Port("features", dtype, (None, len(columns)))
    return natural((port,), OUTPUT, Meaning("regression", inputs=(InputMeaning("features", columns),)))


@given(st.lists(st.lists(st.floats(-1e30, 1e30) | st.integers(-(2**60), 2**60), min_size=3, max_size=3), min_size=1))
def test_numbers_are_rounded_to_float32_in_the_order_of_the_columns(rows: list[list[float]]) -> None:
    named = [dict(zip(("c", "a", "b"), row, strict=True)) | {"label": "seven"} for row in rows]
    (found,) = table("a", "b", "c").from_rows(named)
    expected = np.array([[np.float32(float(each)) for each in (row[1], row[2], row[0])] for row in rows])
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found.tobytes() == expected.tobytes()


@given(st.text(st.sampled_from("0123456789.eE+- \tnaif_x,"), max_size=12))
def test_a_text_is_a_number_where_it_is_one_in_a_csv_file(text: str) -> None:
    """What is refused, and what a text comes to, is what `prepare` reads from a file with the same text in it."""
    columns = Columns(("a",), (InputColumns(("a",), (1,)),), None, None, None)
    block = Block(f'"{text}"\n'.encode(), 2, 0)
    prepared = parse_row_by_row(block, columns, Origin(Path("rows.csv")))
    if prepared.bad:
        with pytest.raises(Malformed) as refusal:
            table("a").from_rows([{"a": text}])
        assert refusal.value.what == f"row 0: {prepared.bad[0].reason}"
    else:
        (found,) = table("a").from_rows([{"a": text}])
        assert found.tobytes() == prepared.numbers.tobytes()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "is empty"),
        (True, "holds true, not a number"),
        ([1], "holds a list, not a number"),
        ({"a": 1}, "holds an object, not a number"),
        (float("nan"), "holds NaN, not a finite number"),
        (float("inf"), "holds more than float32 can hold"),
        (2.0**128, "holds more than float32 can hold"),
        pytest.param(10**400, "holds more than float32 can hold", id="huge"),
        pytest.param(-(10**400), "holds more than float32 can hold", id="minus-huge"),
        ("seven", "holds 'seven', not a number"),
        pytest.param("1" * 100_000, "not a number", id="many-digits"),
        ("", "is empty"),
    ],
)
def test_what_is_no_number_is_refused_with_its_row_and_column(value: Any, reason: str) -> None:
    with pytest.raises(Malformed, match=r"^row 1: column 'income' ") as refusal:
        table("age", "income").from_rows([{"age": 1, "income": 2}, {"age": 1, "income": value}])
    assert refusal.value.what.endswith(reason)
    assert len(refusal.value.what) < 120


def test_the_largest_number_of_float32_is_taken_and_what_rounds_to_infinity_is_not() -> None:
    largest = float(np.finfo(np.float32).max)
    (found,) = table("a").from_rows([{"a": largest}, {"a": -largest}, {"a": nextafter(2.0**128 - 2.0**103, 0)}])
    assert np.isfinite(found).all()
    for first_beyond in (2.0**128 - 2.0**103, 2**128 - 2**103 - 1):
        with pytest.raises(Malformed, match="more than float32 can hold"):
            table("a").from_rows([{"a": first_beyond}])


def test_a_missing_column_is_named_with_what_may_have_been_meant() -> None:
    with pytest.raises(Malformed, match=r"^row 0: column 'income' is missing; did you mean it by 'incom'\?$"):
        table("age", "income").from_rows([{"age": 1, "incom": 2}])
    with pytest.raises(Malformed, match=r"^row 0: column 'income' is missing$"):
        table("age", "income").from_rows([{"age": 1}])


@pytest.mark.parametrize("row", [1, "a", None, [1, 2], [["a", 1]]])
def test_a_row_that_is_no_object_is_refused(row: Any) -> None:
    with pytest.raises(Malformed, match="row 0 is no object"):
        table("a").from_rows([row])


def test_no_rows_are_refused() -> None:
    with pytest.raises(Malformed, match="there are no rows"):
        table("a").from_rows([])


@pytest.mark.parametrize("number", [-1, 256, 0.5, "1e3"])
def test_a_model_of_bytes_takes_no_other_numbers(number: Any) -> None:
    with pytest.raises(Malformed, match=r"row 0: column 'a' holds .*; the model learnt whole"):
        table("a", dtype="uint8").from_rows([{"a": number}])


def test_columns_fill_every_input_row_by_row() -> None:
    ports = (Port("numbers", "float32", (None, 2)), Port("image", "float32", (None, 1, 2, 2)))
    told = (InputMeaning("numbers", ("a", "b")), InputMeaning("image", ("p", "q", "a", "r"), 16.0))
    found = natural(ports, OUTPUT, Meaning("regression", inputs=told))
    assert found.kinds == {"row"}
    numbers, image = found.from_rows([{"a": 1, "b": 2, "p": 3, "q": 4, "r": 5}])
    assert numbers.tolist() == [[1, 2]]
    assert image.tolist() == [[[[3, 4], [1, 5]]]]


@pytest.mark.parametrize(
    ("port", "told"),
    [
        (Port("x", "float32", (None, 2)), ()),
        (Port("x", "float32", (None, 2)), (InputMeaning("", ()),)),
        (Port("x", "float32", (None, None)), (InputMeaning("x", ("a", "b")),)),
        (Port("x", "float32", (None, 3)), (InputMeaning("x", ("a", "b")),)),
        (Port("x", "int64", (None, 2)), (InputMeaning("x", ("a", "b")),)),
    ],
)
def test_a_model_that_is_not_made_of_columns_takes_tensors_alone(port: Port, told: tuple[InputMeaning, ...]) -> None:
    found = natural((port,), OUTPUT, Meaning("regression", inputs=told))
    assert found.kinds == frozenset()
    with pytest.raises(WrongMedia, match="takes no rows of named columns; it takes tensors"):
        found.from_rows([{"a": 1, "b": 2}])
