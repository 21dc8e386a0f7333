"""Tensors against a model's ports: what fits comes back bit for bit, and what does not is refused in words."""

import json
import struct
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mlctl.runtime.running import Port
from mlctl.serving.protocols.json_tensors import decoded, from_json, from_nested, json_of, nested_shape
from mlctl.serving.protocols.open_inference_classes import classified
from mlctl.serving.protocols.open_inference_tensors import (
    DATATYPES,
    Wanted,
    arranged,
    check_shape,
    checked_port,
    datatype,
    from_raw,
    from_values,
    open_shape,
    quoted,
    to_raw,
    wanted_output,
)
from mlctl.serving.refusals import Malformed, Unacceptable
from mlctl.serving.signature import Meaning, Signature

NUMBERS = sorted(set(DATATYPES) - {"object", "bfloat16"})
PAIR = Signature(
    "pair",
    1,
    "onnxruntime",
    (Port("a", "float32", (None, 2)), Port("b", "int64", (None,))),
    (Port("y", "float32", (None, 3)), Port("words", "object", (None,))),
    Meaning(labels=("ant", "bee", "cat")),
)


def open_port(dtype: str, rank: int) -> Port:
    return Port("x", dtype, (None,) * rank)


def bits(array: npt.NDArray[Any]) -> bytes:
    """NaN and the sign of zero count."""
    return array.tobytes()


any_numbers = st.sampled_from(NUMBERS).flatmap(lambda dtype: arrays(dtype, array_shapes(max_dims=4, max_side=4)))
any_texts = arrays(object, array_shapes(max_dims=3, max_side=3), elements=st.text(max_size=5), fill=st.nothing())


@given(any_numbers, st.integers(0, 9))
def test_bytes_of_numbers_are_their_tensor_wherever_they_lie(array: npt.NDArray[Any], start: int) -> None:
    port = open_port(array.dtype.name, array.ndim)
    body = b"x" * start + array.tobytes()
    found = from_raw(port, array.shape, memoryview(body)[start:])
    assert (found.dtype, found.shape, bits(found)) == (array.dtype, array.shape, bits(array))
    assert found.flags.aligned
    assert found.flags.c_contiguous
    assert to_raw(found) == array.tobytes()


def test_bytes_that_lie_well_are_not_copied() -> None:
    body = np.arange(6, dtype=np.float32).tobytes()
    found = from_raw(open_port("float32", 2), (2, 3), body)
    assert np.shares_memory(found, np.frombuffer(body, np.uint8))


@given(any_texts)
def test_texts_are_read_as_they_are_written(array: npt.NDArray[Any]) -> None:
    port = open_port("object", array.ndim)
    for found in (
        from_raw(port, array.shape, to_raw(array)),
        from_values(port, array.shape, array.ravel().tolist()),
        from_values(port, array.shape, [text.encode() for text in array.ravel()]),
        from_json(port, array.shape, array.tolist()),
    ):
        assert found.tolist() == array.tolist()
        assert all(type(text) is str for text in found.ravel())


def test_texts_are_framed_as_the_extension_says() -> None:
    assert to_raw(np.array(["ab", "", "é"], object)) == b"\2\0\0\0ab" + b"\0\0\0\0" + b"\2\0\0\0\xc3\xa9"


@given(
    st.sampled_from(NUMBERS).flatmap(
        lambda dtype: arrays(
            dtype,
            array_shapes(max_dims=3, max_side=4),
            elements={"allow_nan": False, "allow_infinity": False} if dtype.startswith("float") else None,
        )
    ),
    st.booleans(),
)
def test_finite_numbers_survive_json_both_ways(array: npt.NDArray[Any], is_flat: bool) -> None:
    port = open_port(array.dtype.name, array.ndim)
    # The standard library's spelling is independent of orjson's.
    sent = orjson.loads(json.dumps((array.ravel() if is_flat else array).tolist()))
    found = from_json(port, array.shape, sent)
    assert (found.dtype, found.shape, bits(found)) == (array.dtype, array.shape, bits(array))
    written = json.loads(json_of("y", found))
    assert bits(np.array(written, array.dtype)) == bits(array.ravel())
    if not is_flat:
        assert bits(from_nested(port, sent)) == bits(array)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (name, limit)
        for name in NUMBERS
        if name not in ("bool", "float16", "float32", "float64")
        for limit in (int(np.iinfo(name).min), int(np.iinfo(name).max))
    ],
)
def test_the_last_integer_fits_and_the_next_does_not(dtype: str, value: int) -> None:
    port = open_port(dtype, 1)
    assert from_values(port, [1], [value]).tolist() == [value]
    beyond = value - 1 if value <= 0 else value + 1
    with pytest.raises(Malformed, match=rf"input 'x' takes {datatype(port)}, and value 0 is {beyond}"):
        from_values(port, [1], [beyond])


@pytest.mark.parametrize(
    ("dtype", "values", "what"),
    [
        ("int64", [1, 1.5], "takes INT64, and value 1 is 1.5"),
        ("int64", [1, 2.0], "takes INT64, and value 1 is 2.0"),
        ("int64", [1, True], "takes INT64, and value 1 is true"),
        ("uint8", [1, -1], "takes UINT8, and value 1 is -1"),
        ("float32", [1, False], "takes FP32, and value 1 is false"),
        ("float32", [1, None], "takes FP32, and value 1 is null"),
        ("float32", [1, "1"], "takes FP32, and value 1 is '1'"),
        ("float32", [1, [1]], "takes FP32, and value 1 is a list"),
        ("float32", [1, {}], "takes FP32, and value 1 is an object"),
        ("float32", [1, 1e39], "takes FP32, and value 1 is 1e\\+39"),
        ("float16", [1, 65520.0], "takes FP16, and value 1 is 65520.0"),
        ("bool", [True, 1], "takes BOOL, and value 1 is 1"),
        ("bool", [True, "true"], "takes BOOL, and value 1 is 'true'"),
        ("object", ["a", 1], "takes BYTES, and value 1 is 1"),
        ("object", ["a", None], "takes BYTES, and value 1 is null"),
        ("object", ["a", ["b"]], "takes BYTES, and value 1 is a list"),
        ("object", ["a", b"\xff"], "takes texts in UTF-8, and value 1 is none"),
        ("float32", [1], r"has 1 values, and its shape \[2\] has 2"),
        ("float32", [1, 2, 3], r"has 3 values, and its shape \[2\] has 2"),
        ("bfloat16", [1, 2], "takes BF16, which can be sent as binary data alone"),
    ],
)
def test_values_that_do_not_fit_are_named(dtype: str, values: list[Any], what: str) -> None:
    with pytest.raises(Malformed, match=what):
        from_values(open_port(dtype, 1), [2], values)


@pytest.mark.parametrize(
    ("shape", "data", "what"),
    [
        ([2, 2], [[1, 2], [3]], "not nested as its shape"),
        ([2, 2], [[1, 2], 3], "not nested as its shape"),
        ([2, 2], [[1, 2], [3, 4], [5, 6]], "not nested as its shape"),
        ([4], [[1, 2], [3, 4]], "not nested as its shape"),
        ([2, 2], [1, 2, 3, [4]], "value 3 is a list"),
        ([2, 2], [[1, 2], [3, [4]]], "value 3 is a list"),
        ([2, 2], {"0": 1}, "in an object, and must have it in a list"),
        ([2, 2], "1234", "in '1234', and must have it in a list"),
        ([2, 2], [], r"has 0 values, and its shape \[2, 2\] has 4"),
    ],
)
def test_lists_that_are_not_the_shape_are_refused(shape: list[int], data: Any, what: str) -> None:
    with pytest.raises(Malformed, match=what):
        from_json(open_port("float32", len(shape)), shape, data)


def test_rows_of_a_row_are_flat_or_nested_alike() -> None:
    port = Port("x", "float32", (None, 2, 2))
    flat = from_json(port, [1, 2, 2], [1, 2, 3, 4])
    np.testing.assert_array_equal(flat, from_json(port, [1, 2, 2], [[[1, 2], [3, 4]]]))
    np.testing.assert_array_equal(flat, from_nested(port, [[[1, 2], [3, 4]]]))


def test_the_shape_of_nested_lists_is_that_of_their_first_values_and_has_an_end() -> None:
    assert nested_shape([[1, 2, 3], [4]]) == [2, 3]
    assert nested_shape(7) == []
    assert nested_shape([[], [1]]) == [2, 0]
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    assert len(nested_shape(deep)) == 32
    with pytest.raises(Malformed, match="takes the shape"):
        from_nested(open_port("float32", 2), deep)


@pytest.mark.parametrize(
    ("dtype", "shape", "raw", "what"),
    [
        ("float32", [2], b"1234", r"has 4 bytes, and FP32 \[2\] has 8"),
        ("float32", [2**40], b"1234", "has 4 bytes"),
        ("bool", [2], b"\0\2", "takes BOOL, whose bytes are 0 or 1"),
        ("object", [2], b"\0\0\0\0", "has 4 bytes, too few for 2 texts"),
        ("object", [2**60], b"\0\0\0\0", "too few for"),
        ("object", [1], b"\5\0\0\0abcd", "ends within text 0 of 1"),
        ("object", [2], b"\3\0\0\0abcd", "ends within text 1 of 2"),
        ("object", [1], b"\xff\xff\xff\xffabcd", "ends within text 0 of 1"),
        ("object", [1], b"\1\0\0\0abcd", "has 3 bytes after the last of its 1 texts"),
        ("object", [1], b"\1\0\0\0\xff", "takes texts in UTF-8, and value 0 is none"),
    ],
)
def test_bytes_that_are_not_the_tensor_are_refused(dtype: str, shape: list[int], raw: bytes, what: str) -> None:
    with pytest.raises(Malformed, match=what):
        from_raw(open_port(dtype, 1), shape, raw)


def test_bfloat16_travels_as_its_bits() -> None:
    values = np.array([1.5, -2.0, 3e38], ml_dtypes.bfloat16)
    found = from_raw(open_port("bfloat16", 1), [3], values.tobytes())
    assert found.dtype == np.uint16
    assert found.view(ml_dtypes.bfloat16).tolist() == values.tolist()
    assert to_raw(found) == values.tobytes()


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ([3, 3], r"takes the shape \[-1, 2\], not \[3, 3\]"),
        ([3], r"not \[3\]"),
        ([3, 2, 1], r"not \[3, 2, 1\]"),
        ([-1, 2], r"a size of its shape \[-1, 2\] is below 1"),
        ([True, 2], r"not \[true, 2\]"),
        ([1.0, 2], r"not \[1.0, 2\]"),
        (["1", 2], r"not \['1', 2\]"),
        ([[1], 2], r"not \[a list, 2\]"),
        ([0, 2], r"has nothing in it: a size of its shape \[0, 2\] is 0"),
        ([1] * 99, r"not \[1, 1, 1, 1, 1, 1, 1, 1, …\]"),
    ],
)
def test_shapes_that_a_port_does_not_take_are_refused(shape: list[Any], what: str) -> None:
    with pytest.raises(Malformed, match=what):
        check_shape(Port("x", "float32", (None, 2)), shape)


def test_inputs_are_brought_into_the_models_order_and_none_may_be_missing_or_doubled() -> None:
    a, b = np.zeros((2, 2), np.float32), np.ones(2, np.int64)
    first, second = PAIR.inputs
    assert arranged(PAIR, [(second, b), (first, a)]) == (a, b)
    with pytest.raises(Malformed, match="the model also takes the input 'b'"):
        arranged(PAIR, [(first, a)])
    with pytest.raises(Malformed, match="the model also takes the input 'a', 'b'"):
        arranged(PAIR, [])
    with pytest.raises(Malformed, match="input 'a' is given twice"):
        arranged(PAIR, [(first, a), (second, b), (first, a)])
    with pytest.raises(Malformed, match="input 'a' has 2 rows, and 'b' has 3: they must be as many"):
        arranged(PAIR, [(first, a), (second, np.ones(3, np.int64))])


def test_names_and_datatypes_are_checked_with_what_there_is() -> None:
    assert checked_port(PAIR, "b", "INT64", [4]) is PAIR.inputs[1]
    assert open_shape(PAIR.inputs[0]) == [-1, 2]
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: checked_port(PAIR, "c", "FP32", [1]), "the model has no input 'c'; it takes 'a', 'b'"),
        (lambda: checked_port(PAIR, "a", "FP64", [1, 2]), "input 'a' takes FP32, not 'FP64'"),
        (lambda: wanted_output(PAIR, "z"), "the model has no output 'z'; it gives 'y', 'words'"),
        (lambda: wanted_output(PAIR, "words", 2), "output 'words' is BYTES, whose values are no classes"),
    ]
    for ask, what in refused:
        with pytest.raises(Malformed) as refusal:
            ask()
        assert refusal.value.what == what


def test_a_message_holds_no_more_of_a_callers_text_than_a_line() -> None:
    assert len(quoted("x" * 10**6)) < 80
    assert quoted({"a": "x" * 10**6}) == "an object"
    assert quoted(None) == "null"


def test_nan_is_null_in_json_and_an_infinity_is_refused() -> None:
    assert json_of("y", np.array([1, np.nan], np.float32)) == b"[1.0,null]"
    for value in (np.inf, -np.inf):
        with pytest.raises(Unacceptable, match="output 'y' has an infinite value"):
            json_of("y", np.array([[1, value], [np.nan, 0]], np.float32))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1", b"\xff", b'{"a": NaN}', b'{"a": 1e400}', b"[" * 10**5, b'"\\ud800"']
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed, match="the request is no JSON"):
        decoded(body)


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"x"'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed, match="must be an object"):
        decoded(body)


def test_the_highest_values_are_classes_and_the_first_of_equals_goes_first() -> None:
    scores = np.array([[0.5, 0.1, 0.5], [np.nan, -np.inf, -1]], np.float32)
    wanted = Wanted(0, PAIR.outputs[0], 2)
    assert classified(scores, wanted, PAIR).tolist() == [["0.5:0:ant", "0.5:2:cat"], ["-1.0:2:cat", "nan:0:ant"]]
    # More classes than there are values are all of them; another output than the first has no labels.
    elsewhere = Wanted(1, Port("y", "uint8", (None, 3)), 9)
    assert classified(np.array([[0, 255, 7]], np.uint8), elsewhere, PAIR).tolist() == [["255:1", "7:2", "0:0"]]


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=3, max_side=5), elements={"allow_nan": False}))
def test_classes_are_in_falling_order_and_exact(scores: npt.NDArray[np.float32]) -> None:
    rows = scores.reshape(len(scores), -1)
    found = classified(scores, Wanted(1, Port("y", "float32", (None,)), 3), PAIR)
    assert found.shape == (len(rows), min(3, rows.shape[1]))
    for row, texts in zip(rows, found, strict=True):
        pairs = [text.split(":") for text in texts]
        # `sorted` is stable: an independent reference for values and ties alike.
        wanted = sorted(range(len(row)), key=lambda place: -row[place])[:3]
        assert [int(place) for _, place in pairs] == wanted
        assert [struct.pack("f", float(value)) for value, _ in pairs] == [struct.pack("f", row[p]) for p in wanted]
