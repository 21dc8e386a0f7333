"""Tensors as nested lists of JSON, both ways."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port
from mlctl.serving.protocols.bodies import in_json
from mlctl.serving.protocols.nested_tensors import in_columns, in_rows, jsonable, row_tensor, tensor
from mlctl.serving.refusals import Malformed
from mlctl.serving.signature import Meaning, Signature

NUMBERS = Port("y", "float32", (None, 2))
PLACES = Port("best", "int64", (None,))


def giving(*outputs: Port) -> Signature:
    return Signature("m", 1, "onnxruntime", (Port("x", "float32", (None,)),), outputs, Meaning())


def written(value: Any) -> Any:
    return orjson.loads(in_json(value).body)


def parts(*sizes: int) -> list[Arrays]:
    """Outputs for NUMBERS and PLACES, in parts of so many rows that count on from one to the next."""
    rows = np.arange(2 * sum(sizes), dtype=np.float32).reshape(-1, 2)
    cuts = np.cumsum(sizes)[:-1]
    return list(zip(np.split(rows, cuts), np.split(rows[:, 0].astype(np.int64), cuts), strict=True))


@pytest.mark.parametrize("sizes", [(3,), (1, 2), (1, 1, 1)])
def test_rows_and_columns_are_the_same_however_they_were_computed(sizes: tuple[int, ...]) -> None:
    both, one = giving(NUMBERS, PLACES), giving(PLACES)
    rows = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert written(in_rows(both, parts(*sizes))) == [
        {"y": row, "best": place} for row, place in zip(rows, (0, 2, 4), strict=True)
    ]
    assert written(in_columns(both, parts(*sizes))) == {"y": rows, "best": [0, 2, 4]}
    places = [(place,) for _, place in parts(*sizes)]
    assert written(in_rows(one, places)) == written(in_columns(one, places)) == [0, 2, 4]


def test_rows_of_different_length_stay_apart() -> None:
    port = Port("logits", "float32", (None, None))
    ragged: list[Arrays] = [(np.ones((1, 1), np.float32),), (np.zeros((1, 2), np.float32),)]
    assert written(in_rows(giving(port), ragged)) == [[1.0], [0.0, 0.0]] == written(in_columns(giving(port), ragged))


def test_bytes_are_base64_and_texts_are_texts() -> None:
    texts = np.array([["grün"], ["a"]], object)
    assert jsonable(Port("name", "object", (None, 1)), texts) == [["grün"], ["a"]]
    assert jsonable(Port("name_bytes", "object", (None, 1)), texts) == [[{"b64": "Z3LDvG4="}], [{"b64": "YQ=="}]]


def test_bfloat16_is_read_from_its_bits() -> None:
    bits = (np.array([[1.5, -2.0]], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    assert written(jsonable(Port("y", "bfloat16", (None, 2)), bits)) == [[1.5, -2.0]]


def test_what_is_not_finite_is_null() -> None:
    assert written(jsonable(NUMBERS, np.array([[np.nan, np.inf]], np.float32))) == [[None, None]]


@given(arrays.arrays(np.int16, arrays.array_shapes(min_dims=1, max_dims=4, max_side=4)))
def test_nested_lists_are_the_array_that_they_came_from(array: np.ndarray[Any, Any]) -> None:
    port = Port("x", "int16", tuple([None] * array.ndim))
    assert np.array_equal(tensor(port, array.tolist()), array)
    rows = [row.ravel().tolist() for row in array]
    fixed = Port("x", "int16", (None, *array.shape[1:]))
    assert np.array_equal(row_tensor(fixed, rows), array)


@given(st.recursive(st.integers(-9, 9) | st.just("a"), lambda inner: st.lists(inner, max_size=3), max_leaves=8))
def test_nested_lists_are_a_tensor_only_where_numpy_agrees(nested: Any) -> None:
    port = Port("x", "int64", (None, None))
    try:
        found = tensor(port, nested)
    except Malformed:
        try:
            expected = np.array(nested)
        except ValueError:
            return
        assert expected.ndim != 2 or expected.size == 0 or expected.dtype.kind != "i"
        return
    assert np.array_equal(found, np.array(nested, np.int64))


def test_an_open_size_of_a_row_is_what_is_left() -> None:
    found = row_tensor(Port("x", "float32", (None, 2, None)), [[1, 2, 3, 4, 5, 6]])
    assert found.tolist() == [[[1, 2, 3], [4, 5, 6]]]


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((None, None, None), [[1, 2]]),
        ((None, 2), [[1, 2, 3]]),
        ((None, 2), [[]]),
        ((None, 2), [[1, 2], 3]),
        ((3,), [1]),
    ],
)
def test_rows_that_do_not_fill_their_shape_are_refused(shape: tuple[int | None, ...], rows: list[object]) -> None:
    with pytest.raises(Malformed, match="input 'x'"):
        row_tensor(Port("x", "float32", shape), rows)
