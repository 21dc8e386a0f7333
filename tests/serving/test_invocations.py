"""/invocations, as MLflow's scoring server and SageMaker's containers are asked."""

import csv
import io
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_models import Asker, Labelled, Meaningful, all_routes, catalogue, half_plus_three, png

from mlctl.serving.http.messages import Request
from mlctl.serving.protocols.accepting import accepted
from mlctl.serving.protocols.csv_rows import rows_of
from mlctl.serving.refusals import Malformed, NotReady, Unacceptable
from mlctl.serving.signature import Meaning

GREY = png([0, 255], [255, 255])
LIGHT = {"label": "light", "probability": 0.75, "probabilities": {"dark": 0.25, "light": 0.75}}
PRICES = {"predictions": [{"prediction": 70.0}, {"prediction": 90.0}]}


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Asker:
    return Asker(catalogue(tmp_path_factory.mktemp("models")))


def invoke(ask: Asker, model: str, body: object, media: str = "", headers: Mapping[str, str] | None = None) -> Any:
    return ask.json("POST", f"/invocations?model={model}", body, media, headers)


def refused(ask: Asker, model: str, body: object, media: str = "", accept: str = "") -> tuple[int, str, str]:
    response = ask("POST", f"/invocations?model={model}", body, media, {"accept": accept})
    found = orjson.loads(response.body)
    assert list(found) == ["error_code", "message"]
    return response.status, found["error_code"], found["message"]


def npy(array: Any, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), version)
    return stream.getvalue()


def huge_npy() -> bytes:
    """A header without the array that it promises."""
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (9_999_999_999_999_999, 2)}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["area", "rooms"], "data": [[50, 2], [60, 3]]}},
        {"dataframe_split": {"columns": ["rooms", "area"], "index": [7, 8], "data": [[2, 50], [3, 60]]}},
        {"dataframe_split": {"data": [[50, 2], [60, 3]]}},
        {"dataframe_records": [{"area": 50, "rooms": 2}, {"area": 60, "rooms": 3}]},
        [{"area": 50, "rooms": 2}, {"area": 60, "rooms": 3}],
        [[50, 2], [60, 3]],
    ],
)
def test_rows_are_read_in_all_of_mlflows_forms(ask: Asker, body: Any) -> None:
    assert invoke(ask, "price", body) == PRICES


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (b"area,rooms\n50,2\n60,3\n", "text/csv"),
        (b'"rooms",area\r\n2,5e1\r\n\r\n3,60.0', "text/csv; charset=utf-8"),
        (b"50,2\n60,3\n", "text/csv"),
        (b"50,2\n60,3\n", "text/csv; header=absent"),
        (b"area,rooms\n50,2\n60,3\n", "text/csv; header=present"),
    ],
)
def test_csv_is_read_with_a_header_and_without(ask: Asker, body: bytes, media: str) -> None:
    assert invoke(ask, "price", body, media) == PRICES


def test_columns_may_be_called_by_numbers() -> None:
    assert rows_of(b"1,0\n5,6\n", "text/csv", ("0", "1")) == [{"1": "5", "0": "6"}]
    assert rows_of(b"1,0\n5,6\n", "text/csv", ("a", "b")) == [{"a": "1", "b": "0"}, {"a": "5", "b": "6"}]


def test_tensors_are_answered_with_outputs(ask: Asker) -> None:
    for body in (
        {"instances": [[50, 2], [60, 3]]},
        {"inputs": [[50, 2], [60, 3]]},
        {"inputs": {"row": [[50, 2], [60, 3]]}},
    ):
        assert invoke(ask, "price", body) == {"predictions": [[70.0], [90.0]]}
    array = np.array([[50, 2], [60, 3]], np.float32)
    for version in ((1, 0), (2, 0), (3, 0)):
        for each in (array, np.asfortranarray(array)):
            found = invoke(ask, "price", npy(each, version), "application/x-npy")
            assert found == {"predictions": [[70.0], [90.0]]}


@pytest.mark.parametrize("media", ["image/png", "application/octet-stream", "application/x-image"])
def test_an_image_file_is_classified(ask: Asker, media: str) -> None:
    assert invoke(ask, "light", GREY, media) == {"predictions": [LIGHT]}


def test_images_and_texts_come_in_data_frames(ask: Asker) -> None:
    body = {"dataframe_records": [{"image": b64encode(GREY).decode()}]}
    assert invoke(ask, "light", body) == {"predictions": [LIGHT]}
    body = {"dataframe_split": {"columns": ["text"], "data": [["one"], ["one two"]]}}  # type: ignore[dict-item]
    assert invoke(ask, "words", body) == {"predictions": [{"embedding": [1.0]}, {"embedding": [3.0]}]}
    assert invoke(ask, "words", b"one two", "text/plain") == {"predictions": [{"embedding": [3.0]}]}


def test_csv_is_answered_where_it_is_accepted(ask: Asker) -> None:
    rows = [[50, 2], [60, 3]]
    found = ask("POST", "/invocations?model=price", rows, headers={"accept": "text/csv"})
    assert (found.media, found.body) == ("text/csv", b"70.0\n90.0\n")
    found = ask("POST", "/invocations?model=light", GREY, "image/png", {"accept": "text/csv"})
    assert found.body == b"0.25,0.75\n"
    found = ask("POST", "/invocations?model=half_plus_three", {"instances": [1.0, 2.0]}, headers={"accept": "text/csv"})
    assert found.body == b"3.5\n4.0\n"
    row = {"tag": 'a "b", c', "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]}
    found = ask("POST", "/invocations?model=three", {"instances": [row]}, headers={"accept": "text/csv"})
    assert found.body == b'"a ""b"", c"\n'


@pytest.mark.parametrize(
    ("header", "media"),
    [
        ("", "a/json"),
        ("*/*", "a/json"),
        ("t/csv", "t/csv"),
        ("t/csv, */*;q=0.1", "t/csv"),
        ("t/*;q=0.5, a/json;q=0.4", "t/csv"),
        ("A/JSON ; Q=1", "a/json"),
        ("a/json;q=0, */*", "t/csv"),
        ("a/json;q=2", "a/json"),
    ],
)
def test_the_preferred_form_is_taken(header: str, media: str) -> None:
    assert accepted(header, ("a/json", "t/csv")) == media


@pytest.mark.parametrize("header", ["image/png", "a/json;q=0", "*/*;q=0.0", ";", "a"])
def test_no_form_that_is_taken_is_told(header: str) -> None:
    with pytest.raises(Unacceptable, match="the answer can be a/json or t/csv"):
        accepted(header, ("a/json", "t/csv"))


def test_sagemakers_header_names_the_model(ask: Asker) -> None:
    found = ask.json("POST", "/invocations", [[50, 2], [60, 3]], headers={"x-amzn-sagemaker-target-model": "price"})
    assert found == PRICES


def test_among_several_models_one_must_be_named(ask: Asker) -> None:
    response = ask("POST", "/invocations", [[50, 2]])
    assert response.status == 400
    assert b"name one, as in /invocations?model=half_plus_three" in response.body


def test_an_only_model_need_not_be_named() -> None:
    models = Labelled()
    models.put(Meaningful("only", 1, half_plus_three(), Meaning()))
    assert Asker(models).json("POST", "/invocations", {"inputs": [1.0]}) == {"predictions": [3.5]}


CHARSETS = [
    ("text/csv; charset=utf-16", 415),
    ('text/csv;header=absent; Charset="latin1"', 415),
    ("application/json; charset=iso-8859-1", 415),
    ("text/plain;charset=utf-16le", 415),
    ("text/csv; charset=UTF-8", 200),
    ("text/csv; charset=us-ascii", 200),
    ("application/json; charset=utf-8", 200),
]


@pytest.mark.parametrize("path", ["/invocations?model=price", "/predictions/price"])
@pytest.mark.parametrize(("media", "status"), CHARSETS)
def test_a_text_in_another_encoding_is_refused_before_it_is_read(
    ask: Asker, path: str, media: str, status: int
) -> None:
    csv = b"area,rooms\n1,2\n"
    body = csv if media.startswith("text/csv") else b'[{"area": 1, "rooms": 2}]'
    response = ask("POST", path, body, media)
    assert response.status == status, response.body
    assert (b"utf-8" in response.body) == (status == 415)


def test_the_guard_learns_which_model_is_meant() -> None:
    models = Labelled()
    (route,) = (each for each in all_routes(models) if each.path == "/invocations")
    request = Request("POST", "/invocations", {}, b"", "", 0.0)
    assert route.names_model is not None
    with pytest.raises(NotReady):
        route.names_model(request)
    models.put(Meaningful("only", 1, half_plus_three(), Meaning()))
    assert route.names_model(request) == "only"
    models.put(Meaningful("second", 1, half_plus_three(), Meaning()))
    with pytest.raises(Malformed):
        route.names_model(request)
    request.headers = {"x-amzn-sagemaker-target-model": "second"}
    assert route.names_model(request) == "second"


@pytest.mark.parametrize(
    ("model", "body", "said"),
    [
        ("price", {"instances": [[1, 2]], "dataframe_records": [{}]}, "both"),
        ("price", {"instances": [[1, 2]], "params": {"a": 1}}, "no 'params'"),
        ("price", {"dataframe_records": []}, "at least one"),
        ("price", {"dataframe_records": [1]}, "at least one"),
        ("price", {"dataframe_records": {"area": [1]}}, "at least one"),
        ("price", {"dataframe_records": [{"area": 1}]}, "'rooms' is missing"),
        ("price", {"dataframe_split": []}, "'columns' and 'data'"),
        ("price", {"dataframe_split": {"columns": [], "data": [[]]}}, "list of names"),
        ("price", {"dataframe_split": {"columns": [1, 2], "data": [[1, 2]]}}, "list of names"),
        ("price", {"dataframe_split": {"columns": ["area", "area"], "data": [[1, 2]]}}, "a column twice"),
        (
            "price",
            {"dataframe_split": {"columns": ["area", "rooms"], "data": [[1]]}},
            "row 0 of dataframe_split",
        ),
        ("price", {"dataframe_split": {"columns": ["area", "rooms"], "data": [1]}}, "is a number"),
        ("price", {"dataframe_split": {"columns": ["area", "rooms"], "data": []}}, "at least one"),
        ("half_plus_three", {"dataframe_split": {"data": [[1]]}}, "list of names"),
        ("price", 7, "not a number"),
        ("price", None, "not null"),
    ],
)
def test_what_cannot_be_rows_is_refused_in_mlflows_form(ask: Asker, model: str, body: object, said: str) -> None:
    status, code, message = refused(ask, model, body)
    assert (status, code) == (400, "BAD_REQUEST")
    assert said in message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"area,rooms\n", "no rows"),
        (b"\n", "no rows"),
        (b"area,rooms\n1\n", "row 0 has 1 cells"),
        (b"area,area\n1,2\n", "a column twice"),
        (b"area,rooms\n1,x\n", "row 0: column 'rooms'"),
        (b'area,"rooms\n1,2\n', "not CSV"),
        (b"area,rooms\n1,\xff\n", "UTF-8"),
        (b"1,2,3\n", "row 0 has 3 cells"),
        (b"1" * 100_000 + b"x,2\n", "no rows"),
        (b"1" * 140_000 + b",2\n", "not CSV"),
    ],
)
def test_csv_that_cannot_be_rows_is_refused(ask: Asker, body: bytes, said: str) -> None:
    # What a cell may hold is a state of the whole process, which reading data for `prepare` changes.
    before = csv.field_size_limit(131_072)
    try:
        assert said in refused(ask, "price", body, "text/csv")[2]
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"x", "no NumPy array file"),
        (npy(np.zeros((1, 2), np.float64)), "takes FP32, not an array of '<f8'"),
        (npy(np.zeros((1, 2), ">f4")), "not an array of '>f4'"),
        (npy(np.zeros((1, 3), np.float32)), "takes the shape [-1, 2]"),
        (npy(np.zeros((0, 2), np.float32)), "nothing in it"),
        (npy(np.zeros((1, 2), np.float32))[:-1], "7 bytes of data, and its header says 8"),
        (npy(np.zeros((1, 2), np.float32)) + b"x", "9 bytes of data"),
        (npy(np.zeros(2, np.dtype([("a", np.float32)]))), "no header with a plain dtype"),
        (huge_npy(), "0 bytes of data, and its header says 79,999,999,999,999,992"),
        (b"\x93NUMPY\x01\x00\x04\x00[[[[", "no header"),
        (npy(np.zeros((1, 2), np.float32)).replace(b"(1, 2)", b"(1  2)"), "no header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "no header"),
        (b"\x93NUMPY\x04\x00" + npy(np.zeros((1, 2), np.float32))[8:], "of format 1.0, 2.0 or 3.0"),
    ],
)
def test_an_array_file_is_checked_before_it_is_read(ask: Asker, body: bytes, said: str) -> None:
    status, _, message = refused(ask, "price", body, "application/x-npy")
    assert (status, said in message) == (400, True), message


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (b"1,2\n" * 65_537, "text/csv"),
        (b"[" + b"{}," * 65_536 + b"{}]", "application/json"),
        (b'{"area":[' + b"1," * 65_536 + b'1],"rooms":[' + b"1," * 65_536 + b"1]}", "application/json"),
    ],
)
def test_more_rows_than_may_keep_others_waiting_are_refused(ask: Asker, body: bytes, media: str) -> None:
    status, _, message = refused(ask, "price", body, media)
    assert (status, "at most 65,536" in message) == (413, True)


def test_an_array_file_never_runs_code(ask: Asker, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "trapped",))

    stream = io.BytesIO()
    np.save(stream, np.array([Trap()], object), allow_pickle=True)
    assert "not an array of '|O'" in refused(ask, "price", stream.getvalue(), "application/x-npy")[2]
    assert not (tmp_path / "trapped").exists()


def test_other_refusals_have_mlflows_codes(ask: Asker) -> None:
    assert refused(ask, "none", [[1, 2]])[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert refused(ask, "price", [[1, 2]], accept="image/png")[0] == 406
    assert refused(ask, "price", b"<a/>", "application/xml")[0] == 415
    assert refused(ask, "three", npy(np.zeros(1)), "application/x-npy")[0] == 415


CELLS = st.one_of(st.text(max_size=6), st.floats().map(str), st.integers().map(str), st.just('"'))
MEDIA = st.sampled_from(["", "application/json", "text/csv", "text/plain", "application/x-npy", "image/png", "a/b",
    "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/octet-stream"])  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=64),
    st.lists(st.lists(CELLS, max_size=3).map(",".join), max_size=4).map(lambda lines: "\n".join(lines).encode()),
    st.lists(st.sampled_from([b"--x", b"\r\n", b"--", b'Content-Disposition: form-data; name="data"', GREY, b"[1]"]),
        max_size=12).map(b"".join),
    st.builds(lambda cut, at: npy(np.zeros((1, 2), np.float32))[:cut] + at, st.integers(0, 140), st.binary(max_size=9)),
    st.sampled_from([GREY[:40], GREY + b"x", b'{"dataframe_split": {"columns": ["a"], "data": [[{}]]}}']),
)  # fmt: skip


@settings(max_examples=200)
@given(
    path=st.sampled_from(["/invocations?model=", "/predictions/"]),
    model=st.sampled_from(["half_plus_three", "three", "linear", "light", "price", "words"]),
    media=MEDIA,
    body=BODIES,
)
def test_whatever_body_comes_is_answered_or_refused(ask: Asker, path: str, model: str, media: str, body: bytes) -> None:
    response = ask("POST", path + model, body, media)
    assert response.status in (200, 400, 415)
    orjson.loads(response.body)
