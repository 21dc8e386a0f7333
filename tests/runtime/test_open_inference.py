"""The Open Inference Protocol's tensors, written and read; and what is no answer of it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mlctl.errors import UsageError
from mlctl.runtime.open_inference import DTYPES, HEADER_LENGTH, NAMES, Malformed, decoded, encoded
from mlctl.runtime.served_address import ServedAddress

FINITE = {"allow_nan": False, "allow_infinity": False}

arrays_of_any_dtype = st.sampled_from(sorted(NAMES)).flatmap(
    lambda dtype: arrays(
        dtype, array_shapes(max_dims=3, max_side=4), elements=FINITE if dtype.startswith("float") else None
    )
)


@given(arrays_of_any_dtype, st.booleans())
def test_what_is_written_is_read_again(array: np.ndarray, is_binary: bool) -> None:
    request = encoded({"x": array}, ["y"], is_binary=is_binary)
    head = json.loads(request.body[: int(request.headers.get(HEADER_LENGTH, len(request.body)))])
    assert head["outputs"] == [{"name": "y", **({"parameters": {"binary_data": True}} if is_binary else {})}]
    # A server that gives its input back.
    echo = json.dumps({"model_version": 2, "outputs": head["inputs"]}).encode()
    rest = request.body[int(request.headers[HEADER_LENGTH]) :] if is_binary else b""
    found = decoded(echo + rest, str(len(echo)) if is_binary else None)
    assert found.version == "2"
    assert found.outputs["x"].dtype == array.dtype
    np.testing.assert_array_equal(found.outputs["x"], array)


def test_a_request_is_spelled_as_the_protocol_says() -> None:
    rows = np.array([[1, 2]], np.float32)
    plain = encoded({"x": rows}, ["y"], is_binary=False)
    assert json.loads(plain.body) == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}],
        "outputs": [{"name": "y"}],
    }
    binary = encoded({"x": rows}, ["y"], is_binary=True)
    length = int(binary.headers["Inference-Header-Content-Length"])
    assert json.loads(binary.body[:length])["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    ]
    assert binary.body[length:] == b"\0\0\x80\x3f\0\0\0\x40"


def output(**changes: object) -> bytes:
    tensor = {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1, 2], **changes}
    return json.dumps({"outputs": [tensor]}).encode()


@pytest.mark.parametrize(
    ("body", "length", "what"),
    [
        (b"<html>", None, "its answer is no JSON"),
        (b"[1]", None, "its answer has no outputs"),
        (b'{"outputs": {}}', None, "its answer has no outputs"),
        (b'{"outputs": ["y"]}', None, "has no name, datatype or shape"),
        (output(datatype="BYTES"), None, "is 'BYTES', which are no numbers"),
        (output(shape=[1, -2]), None, "has a shape that is none"),
        (output(shape=[1, True]), None, "has a shape that is none"),
        (output(shape=[1, 2**60]), None, "has a shape that is none"),
        (output(shape=[1, 3]), None, r"has 2 values, which are not of the shape \[1, 3\]"),
        (output(data=["a", "b"]), None, "holds values that are not FP32"),
        (output(data=[[1], [2, 3]]), None, "holds values that are not FP32"),
        (output(data=None), None, "has 1 values, which are not"),
        (output(datatype="UINT8", data=[1, 999]), None, "holds values that are not UINT8"),
        (output(parameters={"binary_data_size": 8}), None, "has 0 bytes"),
        (output(parameters={"binary_data_size": -8}), None, "has 0 bytes"),
        (output(parameters={"binary_data_size": "8"}), None, "has 0 bytes"),
        (output(), "9999", "is not the length of a part of its answer"),
        (output(), "-1", "is not the length of a part of its answer"),
        (b'{"outputs": ' + b"[" * 100_000, None, "its answer is no JSON"),
    ],
)
def test_what_is_no_answer_is_refused_in_words(body: bytes, length: str | None, what: str) -> None:
    with pytest.raises(Malformed, match=what):
        decoded(body, length)


@given(st.binary(max_size=200), st.none() | st.integers(-5, 300).map(str))
def test_no_bytes_at_all_bring_another_error(body: bytes, length: str | None) -> None:
    with pytest.raises(Malformed):
        decoded(body, length)


def test_every_dtype_has_one_name() -> None:
    assert all(NAMES[dtype] == name for name, dtype in DTYPES.items())


@pytest.mark.parametrize(
    ("text", "url", "name", "version", "is_loopback"),
    [
        ("http://localhost:8000/v2/models/net", "http://localhost:8000/v2/models/net", "net", None, True),
        ("https://a.b/x/v2/models/c.d-1/versions/3/", "https://a.b/x/v2/models/c.d-1/versions/3", "c.d-1", "3", False),
        ("http://[::1]:80/v2/models/net", "http://[::1]:80/v2/models/net", "net", None, True),
    ],
)  # fmt: skip
def test_addresses_of_models_are_read(text: str, url: str, name: str, version: str | None, is_loopback: bool) -> None:
    assert ServedAddress.parse(text) == ServedAddress(url, name, version, is_loopback)


@pytest.mark.parametrize(
    "text",
    [
        "grpc://host:1/v2/models/net",
        "http:///v2/models/net",
        "http://host/v1/models/net",
        "http://host/v2/models/",
        "http://host/v2/models/net/infer",
        "http://host/v2/models/net?x=1",
        "http://host/v2/models/net#x",
        "http://host/v2/models/a b",
        "http://host:port/v2/models/net",
        "http://[::1/v2/models/net",
        "http://host/v2/models/n\N{LATIN SMALL LETTER O WITH DIAERESIS}",
    ],
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        ServedAddress.parse(text)
    assert "http://HOST:PORT/v2/models/NAME" in refusal.value.next


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as refusal:
        ServedAddress.parse("http://me:secret@host/v2/models/net")
    assert "password" in str(refusal.value)
    assert "secret" not in str(refusal.value)
