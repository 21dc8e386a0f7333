"""The binary tensor data extension under whatever bytes come: an answer, or a refusal with a status of the caller's."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from v2_harness import ONNX_TYPES, Asker, Computed, Versions, echo_graph, small_catalogue

from mlctl.runtime.open_inference import HEADER_LENGTH, NAMES, decoded, encoded
from mlctl.serving.http.messages import Response

HEADER = HEADER_LENGTH.lower()
PATHS = ("linear", "echo", "texts", "fixed")
ALL_NUMBERS = [dtype for dtype in ONNX_TYPES if dtype != "object"]


@pytest.fixture(scope="module")
def ask() -> Asker:
    one_each = [
        Computed(f"echo-{dtype}-{rank}", 1, echo_graph([dtype], ["n", *"abc"[: rank - 1]]))
        for dtype in ONNX_TYPES
        for rank in (1, 2, 3)
    ]
    return Asker(Versions(small_catalogue().there).put(*one_each))


any_numbers = st.sampled_from(ALL_NUMBERS).flatmap(lambda dtype: arrays(dtype, array_shapes(max_dims=3, max_side=4)))


@given(any_numbers, st.integers(0, 7))
def test_any_tensor_comes_back_bit_for_bit_through_the_clients_own_framing(
    ask: Asker, array: npt.NDArray[Any], blanks: int
) -> None:
    dtype = array.dtype.name
    request = encoded({f"in_{dtype}": array}, [f"out_{dtype}"], is_binary=True)
    # Blanks behind the JSON move the tensor's bytes to any alignment.
    end = int(request.headers[HEADER_LENGTH])
    body = request.body[:end] + b" " * blanks + request.body[end:]
    response = ask("POST", f"/v2/models/echo-{dtype}-{array.ndim}/infer", body, {HEADER: str(end + blanks)})
    assert response.status == 200
    found = decoded(response.body, dict(response.headers)[HEADER_LENGTH]).outputs[f"out_{dtype}"]
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


@given(arrays(object, array_shapes(max_dims=3, max_side=3), elements=st.text(max_size=4), fill=st.nothing()))
def test_any_texts_come_back_through_bytes_and_json(ask: Asker, texts: npt.NDArray[Any]) -> None:
    raw = b"".join(len(each.encode()).to_bytes(4, "little") + each.encode() for each in texts.ravel())
    given_texts = {"name": "in_object", "datatype": "BYTES", "shape": list(texts.shape)}
    framed = {**given_texts, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [framed], "parameters": {"binary_data_output": True}}).encode()
    path = f"/v2/models/echo-object-{texts.ndim}/infer"
    assert ask("POST", path, head + raw, {HEADER: str(len(head))}).body.endswith(raw)
    plain = json.dumps({"inputs": [{**given_texts, "data": texts.tolist()}]}).encode()
    assert json.loads(ask("POST", path, plain).body)["outputs"][0]["data"] == texts.ravel().tolist()


def require_answer_or_refusal(response: Response) -> None:
    assert response.status == 200 or 400 <= response.status < 500
    if response.status != 200:
        assert list(json.loads(response.body)) == ["error"]


@st.composite
def frames(draw: st.DrawFn) -> tuple[str, bytes, str | None]:
    """A model's name, a body and a header: proper ones, damaged in one to four places."""
    if draw(st.booleans()):
        raw = np.arange(8, dtype=np.float32).tobytes()
        given_tensor = {"name": "x", "datatype": "FP32", "shape": [2, 4], "parameters": {"binary_data_size": 32}}
        model = "linear"
    else:
        raw = b"\1\0\0\0a\2\0\0\0bc"
        given_tensor = {
            "name": "in_object",
            "datatype": "BYTES",
            "shape": [1, 2],
            "parameters": {"binary_data_size": 11},
        }
        model = "texts"
    head = json.dumps({"inputs": [given_tensor], "outputs": [], "id": "i"}).encode()
    body, header = bytearray(head + raw), str(len(head))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["flip", "cut", "insert", "header"])):
            case "flip" if place < len(body):
                body[place] = draw(st.integers(0, 255))
            case "cut":
                del body[place : place + draw(st.integers(1, 9))]
            case "insert":
                body[place:place] = draw(st.binary(min_size=1, max_size=9))
            case _:
                header = draw(st.integers(-2, len(body) + 2).map(str) | st.text(max_size=6))
    return model, bytes(body), header


@settings(max_examples=200)
@given(frames())
def test_a_damaged_frame_gets_an_answer_or_a_refusal(ask: Asker, frame: tuple[str, bytes, str | None]) -> None:
    model, body, header = frame
    require_answer_or_refusal(
        ask("POST", f"/v2/models/{model}/infer", body, {} if header is None else {HEADER: header})
    )


@settings(max_examples=200)
@given(st.sampled_from(PATHS), st.binary(max_size=200), st.none() | st.integers(-1, 210).map(str))
def test_any_bytes_at_all_get_an_answer_or_a_refusal(ask: Asker, model: str, body: bytes, header: str | None) -> None:
    require_answer_or_refusal(
        ask("POST", f"/v2/models/{model}/infer", body, {} if header is None else {HEADER: header})
    )


numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "in_object", "in_float32", "scores"]) | values,
        "datatype": st.sampled_from([*NAMES.values(), "BYTES"]) | values,
        "shape": st.lists(st.integers(-1, 4) | values, max_size=4) | values,
    },
    optional={
        "data": values,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": values}) | values,
    },
)
wanted = st.fixed_dictionaries(
    {"name": st.sampled_from(["scores", "best", "out_object"]) | values},
    optional={
        "parameters": st.fixed_dictionaries({}, optional={"binary_data": values, "classification": values}) | values
    },
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=3) | values},
    optional={
        "outputs": st.lists(wanted, max_size=3) | values,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_output": values}) | values,
        "id": values,
    },
)


@settings(max_examples=200)
@given(st.sampled_from(PATHS), requests, st.binary(max_size=8))
def test_json_that_is_nearly_a_request_gets_an_answer_or_a_refusal(
    ask: Asker, model: str, said: dict[str, Any], rest: bytes
) -> None:
    head = json.dumps(said).encode()
    require_answer_or_refusal(ask("POST", f"/v2/models/{model}/infer", head + rest, {HEADER: str(len(head))}))


@given(values, st.text(max_size=3) | st.integers(-1, 3) | values)
def test_management_with_any_body_gets_an_answer_or_a_refusal(said: Any, version: Any) -> None:
    ask = Asker(small_catalogue())
    for path in ("index", "models/linear/load", "models/linear/unload"):
        for whole in (said, {"parameters": said, "ready": said}, {"parameters": {"version": version}}):
            require_answer_or_refusal(ask("POST", f"/v2/repository/{path}", json.dumps(whole).encode()))
