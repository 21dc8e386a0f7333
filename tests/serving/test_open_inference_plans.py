"""Requests that were read before are answered as if they never had been."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from v2_harness import Asker, Computed, Versions, echo_graph

from mlctl.runtime.open_inference import HEADER_LENGTH

HEADER = HEADER_LENGTH.lower()
MODEL = Computed("echo", 1, echo_graph(["float32"]))
TWO = Computed("two", 1, echo_graph(["float32", "int8"]))
PATHS = ("/v2/models/echo/infer", "/v2/models/two/infer")
FORMS = (
    '{"inputs":[{"name":"in_float32","datatype":"FP32","shape":[1,3],"data":DATA}]}',
    '{"inputs":[{"name":"in_float32","datatype":"FP32","shape":[3,1],"data":DATA}],"outputs":[{"name":"out_float32"}]}',
    ' { "inputs" : [ { "data" : DATA , "name":"in_float32", "shape":[1,3], "datatype":"FP32"} ] } ',
    '{"id":"\\"data\\"[1,2,3]","inputs":[{"name":"in_float32","datatype":"FP32","shape":[1,3],"data":DATA}]}',
    '{"parameters":{"data":[1,2,3]},"inputs":[{"name":"in_float32","datatype":"FP32","shape":[1,3],"data":DATA}]}',
    '{"inputs":[{"name":"in_float32","datatype":"FP32","shape":[1,3],"data":DATA,"data":[7,8,9]}]}',
    '{"inputs":[{"name":"in_float32","datatype":"FP32","shape":[1,3],"data":[7,8,9],"data":DATA}]}',
    '{"inputs":[{"name":"in_float32","datatype":"FP32","shape":[1,3],"data":DATA}],'
    '"outputs":[{"name":"out_float32","parameters":{"classification":2}}]}',
    '{"inputs":[{"name":"in_float32","datatype":"FP32","shape":[1,3],"data":DATA},'
    '{"name":"in_int8","datatype":"INT8","shape":[1,3],"data":[1,2,3]}]}',
)
DATA = (
    "[1,2,3]", "[0.5, -1e3 ,3]", "[[1,2,3]]", "[[1],[2],[3]]", "[1,2]", "[1,2,3,4]", "[]", "[1,2,true]", "[1,null,3]",
    '[1,"2",3]', "[1,[2],3]", "[1,2,3", "1,2,3]", "[1,2,3]]", "[NaN,1,2]", "[1e39,0,0]", "[1e400,0,0]", "[01,2,3]",
    "[1,2,3],[4,5,6]", '[1,2,3],"shape":[3,1]', "[1,2,{}]", "5", "null", "", "[1,2,3.]",
)  # fmt: skip

asked = st.tuples(st.sampled_from(PATHS), st.sampled_from(FORMS), st.sampled_from(DATA))


def told(ask: Asker, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, object]:
    response = ask("POST", path, body, headers)
    return response.status, response.body, (response.media, response.headers)


def alone(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, object]:
    """What a server says that has never been asked before."""
    return told(Asker(Versions().put(MODEL, TWO)), path, body, headers)


@settings(max_examples=150)
@given(st.lists(asked, min_size=2, max_size=8), st.booleans())
def test_numbers_in_json_are_answered_alike_the_first_time_and_again(
    requests: Sequence[tuple[str, str, str]], is_alike: bool
) -> None:
    ask = Asker(Versions().put(MODEL, TWO))
    if is_alike:
        requests = [(*requests[0][:2], data) for _, _, data in requests]
    for path, form, data in [*requests, *requests]:
        body = form.replace("DATA", data).encode()
        assert told(ask, path, body, {}) == alone(path, body, {})


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(("FP32", "INT8")), st.integers(0, 9), st.integers(0, 40)), max_size=6))
def test_bytes_behind_json_are_answered_alike_the_first_time_and_again(
    requests: Sequence[tuple[str, int, int]],
) -> None:
    ask = Asker(Versions().put(MODEL, TWO))
    for datatype, blanks, size in [*requests, *requests]:
        tensor = {"name": "in_float32", "datatype": datatype, "shape": [1, size // 4]}
        sized = {**tensor, "parameters": {"binary_data_size": size}}
        head = json.dumps({"inputs": [sized], "parameters": {"binary_data_output": True}}).encode() + b" " * blanks
        body, headers = head + np.random.default_rng(size).bytes(size), {HEADER: str(len(head))}
        assert told(ask, PATHS[0], body, headers) == alone(PATHS[0], body, headers)


@pytest.mark.parametrize("form", [*FORMS[:3], FORMS[-1]])
def test_other_numbers_get_other_answers(form: str) -> None:
    ask = Asker(Versions().put(MODEL, TWO))
    path = PATHS["in_int8" in form]
    for value in range(5):
        response = ask("POST", path, form.replace("DATA", f"[{value},{value}.5,{-value}]").encode())
        found = {each["name"]: each["data"] for each in json.loads(response.body)["outputs"]}
        assert found["out_float32"] == [value, value + 0.5, -value]


def test_a_version_that_was_loaded_again_is_asked_as_it_is_now() -> None:
    catalogue = Versions().put(MODEL)
    ask = Asker(catalogue)
    body = FORMS[0].replace("DATA", "[1,2,3]").encode()
    for _ in range(2):
        assert ask("POST", PATHS[0], body).status == 200
    catalogue.put(Computed("echo", 1, echo_graph(["float32"], (1, 2))))
    assert ask("POST", PATHS[0], body).status == 400
