"""TensorFlow Serving's REST API, with the requests and answers of its documentation."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_models import Asker, Labelled, Meaningful, brightness, catalogue, closed, png

from mlctl.serving.refusals import Busy
from mlctl.serving.signature import Meaning


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    return catalogue(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def ask(models: Labelled) -> Asker:
    return Asker(models)


def in_base64(content: bytes) -> dict[str, str]:
    return {"b64": b64encode(content).decode()}


def error(ask: Asker, path: str, body: object, status: int = 400) -> str:
    response = ask("POST", path, body)
    assert response.status == status, response.body
    found = orjson.loads(response.body)
    assert list(found) == ["error"]
    return str(found["error"])


def test_the_status_is_that_of_the_documentation(ask: Asker) -> None:
    assert ask.json("GET", "/v1/models/half_plus_three/versions/123") == {
        "model_version_status": [
            {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }


def test_without_a_version_the_status_is_of_all(ask: Asker) -> None:
    found = ask.json("GET", "/v1/models/half_plus_three")["model_version_status"]
    assert [each["version"] for each in found] == ["122", "123"]
    labelled = ask.json("GET", "/v1/models/half_plus_three/labels/old")["model_version_status"]
    assert [each["version"] for each in labelled] == ["122"]


def test_a_version_that_did_not_load_says_why(tmp_path: Path) -> None:
    models = catalogue(tmp_path)
    closed(models, "half_plus_three", 122)
    (found,) = Asker(models).json("GET", "/v1/models/half_plus_three/versions/122")["model_version_status"]
    assert found["state"] == "END"
    assert found["status"] == {
        "error_code": "UNAVAILABLE",
        "error_message": "its golden requests were answered wrongly",
    }


@pytest.mark.parametrize(
    "path", ["/v1/models/none", "/v1/models/half_plus_three/versions/7", "/v1/models/none/metadata"]
)
def test_what_there_is_not_is_not_found(ask: Asker, path: str) -> None:
    assert ask("GET", path).status == 404


def test_the_metadata_has_the_signature_in_tensorflows_words(ask: Asker) -> None:
    found = ask.json("GET", "/v1/models/three/metadata")
    assert found["model_spec"] == {"name": "three", "signature_name": "", "version": "1"}
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert {name: each["dtype"] for name, each in signature["inputs"].items()} == {
        "tag": "DT_STRING",
        "signal": "DT_INT64",
        "sensor": "DT_FLOAT",
    }
    assert signature["inputs"]["signal"] == {
        "dtype": "DT_INT64",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "5", "name": ""}], "unknown_rank": False},
        "name": "signal:0",
    }


@pytest.mark.parametrize("place", ["", "/versions/123", "/labels/old"])
def test_predict_answers_as_the_documentation_says(ask: Asker, place: str) -> None:
    path = f"/v1/models/half_plus_three{place}:predict"
    assert ask.json("POST", path, {"instances": [1.0, 2.0, 5.0]}) == {"predictions": [3.5, 4.0, 5.5]}


def test_what_curl_sends_without_a_content_type_is_read(ask: Asker) -> None:
    body = b'{"instances": [1.0,2.0,5.0]}'
    response = ask("POST", "/v1/models/half_plus_three:predict", body, "application/x-www-form-urlencoded")
    assert orjson.loads(response.body) == {"predictions": [3.5, 4.0, 5.5]}


def test_regress_answers_as_the_documentation_says(ask: Asker) -> None:
    body = {"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, {"x": 2.0}]}
    assert ask.json("POST", "/v1/models/half_plus_three:regress", body) == {"results": [3.5, 4.0]}


ROWS = [
    {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
    {"tag": "bar", "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


def test_rows_of_several_inputs_are_answered_with_rows(ask: Asker) -> None:
    found = ask.json("POST", "/v1/models/three:predict", {"signature_name": "serving_default", "instances": ROWS})
    assert found == {"predictions": [{f"{name}_out": value for name, value in row.items()} for row in ROWS]}


def test_columns_of_several_inputs_are_answered_with_columns(ask: Asker) -> None:
    found = ask.json("POST", "/v1/models/three:predict", {"inputs": COLUMNS})
    assert found == {"outputs": {f"{name}_out": values for name, values in COLUMNS.items()}}


def test_columns_of_one_input_need_no_name(ask: Asker) -> None:
    path = "/v1/models/half_plus_three:predict"
    assert ask.json("POST", path, {"inputs": [1.0, 5.0]}) == {"outputs": [3.5, 5.5]}
    assert ask.json("POST", path, {"inputs": {"x": [1.0, 5.0]}}) == {"outputs": [3.5, 5.5]}


def test_texts_may_be_base64(ask: Asker) -> None:
    row = {**ROWS[0], "tag": in_base64("grün".encode())}
    found = ask.json("POST", "/v1/models/three:predict", {"instances": [row]})
    assert found["predictions"][0]["tag_out"] == "grün"


@pytest.mark.parametrize(
    "instance",
    [in_base64(png([0, 255], [255, 255])), {"image": in_base64(png([0, 255], [255, 255]))}, [[[0, 255], [255, 255]]]],
)
def test_an_image_file_is_what_its_pixels_are(ask: Asker, instance: Any) -> None:
    found = ask.json("POST", "/v1/models/light:predict", {"instances": [instance, instance]})
    assert found == {"predictions": [[0.25, 0.75], [0.25, 0.75]]}


def test_an_image_file_in_columns_is_answered_in_columns(ask: Asker) -> None:
    body = {"inputs": {"image": [in_base64(png([255, 255], [255, 255]))]}}
    assert ask.json("POST", "/v1/models/light:predict", body) == {"outputs": [[0.0, 1.0]]}


def test_texts_of_different_length_are_answered_in_their_order(ask: Asker) -> None:
    body = {"instances": ["one two three", "three", in_base64(b"two two")]}
    assert ask.json("POST", "/v1/models/words:predict", body) == {"predictions": [[6.0], [3.0], [4.0]]}
    assert ask.json("POST", "/v1/models/words:predict", {"inputs": {"text": ["one", "one two"]}}) == {
        "outputs": [[1.0], [3.0]]
    }


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"area": 50, "rooms": 2}, {"area": 60, "rooms": 3}]},
        {"instances": [[50, 2], [60, 3]]},
        {"instances": [{"row": [50, 2]}, {"row": [60, 3]}]},
    ],
)
def test_rows_of_named_columns_are_what_their_tensors_are(ask: Asker, body: Any) -> None:
    assert ask.json("POST", "/v1/models/price:predict", body) == {"predictions": [[70.0], [90.0]]}


def test_named_columns_are_what_their_tensors_are(ask: Asker) -> None:
    body = {"inputs": {"area": [50, 60], "rooms": [2, 3]}}
    assert ask.json("POST", "/v1/models/price:predict", body) == {"outputs": [[70.0], [90.0]]}


def test_classify_gives_labels_and_scores(ask: Asker) -> None:
    # [1, 0, 0, 0] times the harness's weights is their first row, 0, 1/8 and 1/4.
    body = {"examples": [{"x": [1, 0, 0, 0]}, {"x": [2, 0, 0, 0]}]}
    assert ask.json("POST", "/v1/models/linear:classify", body) == {
        "results": [[["ant", 0.0], ["bee", 0.125], ["cat", 0.25]], [["ant", 0.0], ["bee", 0.25], ["cat", 0.5]]]
    }


def test_classify_takes_images(ask: Asker) -> None:
    body = {"examples": [{"image": in_base64(png([0, 0], [0, 255]))}]}
    assert ask.json("POST", "/v1/models/light:classify", body) == {"results": [[["dark", 0.75], ["light", 0.25]]]}


def test_a_class_without_a_label_has_an_empty_one(tmp_path: Path) -> None:
    models = Labelled().put(Meaningful("bare", 1, brightness(), Meaning()))
    assert isinstance(models, Labelled)
    body = {"examples": [{"image": [0, 0, 0, 255]}]}
    found = Asker(models).json("POST", "/v1/models/bare:classify", body)
    assert found == {"results": [[["", 0.75], ["", 0.25]]]}


def test_regress_reads_columns_and_what_all_examples_share(ask: Asker) -> None:
    body = {"context": {"rooms": 2}, "examples": [{"area": 50}, {"area": [60]}]}
    assert ask.json("POST", "/v1/models/price:regress", body) == {"results": [70.0, 80.0]}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("half_plus_three:predict", {}, "either 'instances'"),
        ("half_plus_three:predict", {"instances": [1.0], "inputs": [1.0]}, "either 'instances'"),
        ("half_plus_three:predict", [1.0], "must be an object"),
        ("half_plus_three:predict", {"instances": []}, "at least one"),
        ("half_plus_three:predict", {"instances": 3}, "come as a list"),
        ("half_plus_three:predict", {"instances": ["a"]}, "takes FP32"),
        ("half_plus_three:predict", {"instances": [True]}, "takes FP32"),
        ("half_plus_three:predict", {"instances": [None]}, "takes FP32"),
        ("half_plus_three:predict", {"instances": [1.0, [2.0]]}, "takes FP32"),
        ("half_plus_three:predict", {"instances": [[1.0]]}, "takes the shape [-1]"),
        ("half_plus_three:predict", {"instances": [{"y": 1.0}]}, "takes no 'y'"),
        ("half_plus_three:predict", {"instances": [1.0], "signature_name": "other"}, "no signature 'other'"),
        ("half_plus_three:predict", {"instances": [1.0], "signature_name": ["a"]}, "no signature"),
        ("three:predict", {"instances": [1]}, "must be named"),
        ("three:predict", {"instances": [{"tag": "a"}]}, "also takes the input"),
        ("three:predict", {"instances": [ROWS[0], {"tag": "a"}]}, "row 1 does not have the names"),
        ("three:predict", {"inputs": {**COLUMNS, "tag": ["a"]}}, "they must be as many"),
        ("three:predict", {"instances": [{**ROWS[0], "tag": {"b64": "%"}}]}, "is not base64"),
        ("three:predict", {"instances": [{**ROWS[0], "tag": {"b64": "/w=="}}]}, "UTF-8"),
        ("three:predict", {"instances": [{**ROWS[0], "signal": [1, 2, 3, 4, 5.5]}]}, "takes INT64"),
        ("three:predict", {"instances": [{**ROWS[0], "signal": [1, 2, 3, 4, 2**63]}]}, "takes INT64"),
        ("light:predict", {"instances": [in_base64(b"no image")]}, "image"),
        ("light:predict", {"instances": [[[[0, 256], [0, 0]]]]}, "takes UINT8"),
        ("price:predict", {"instances": [{"area": 1}]}, "column 'rooms' is missing"),
        ("words:predict", {"instances": ["one", 2]}, "takes"),
        ("linear:regress", {"examples": [{"x": [1, 2, 3, 4]}]}, "gives no single number"),
        ("words:classify", {"examples": [{"text": "one"}]}, "gives no classes"),
        ("linear:classify", {}, "'examples'"),
        ("linear:classify", {"examples": []}, "'examples'"),
        ("linear:classify", {"examples": [1]}, "example 0 is an object"),
        ("linear:classify", {"examples": [{}]}, "has no features"),
        ("linear:classify", {"examples": [{"x": [1, 2, 3]}]}, "takes rows of the shape [4]"),
        ("linear:classify", {"examples": [{"x": [1, 2, 3, 4]}, {"x": [1]}]}, "as many values"),
        ("linear:classify", {"examples": [{"x": [1, 2, 3, 4]}, {"z": 1}]}, "features of example 0"),
        ("linear:classify", {"context": {"x": 1}, "examples": [{"x": 1}]}, "stands in 'context'"),
        ("linear:classify", {"context": [], "examples": [{"x": 1}]}, "'context' is an object"),
        ("linear:classify", {"examples": [{"z": 1}]}, "are not what the model takes"),
    ],
)
def test_what_the_model_does_not_take_is_refused_and_says_why(ask: Asker, path: str, body: object, said: str) -> None:
    assert said in error(ask, f"/v1/models/{path}", body)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"instances": [NaN]}', b'{"instances": [1e400]}', b"[" * 100_000]
)
def test_what_is_no_json_is_refused(ask: Asker, body: bytes) -> None:
    assert "JSON" in error(ask, "/v1/models/half_plus_three:predict", body)


def test_nested_lists_without_end_cost_nothing(ask: Asker) -> None:
    deep = b'{"instances":' + b"[" * 1000 + b"]" * 1000 + b"}"
    assert error(ask, "/v1/models/half_plus_three:predict", deep)


def test_a_full_queue_is_told_with_when_to_come_again(tmp_path: Path) -> None:
    models = catalogue(tmp_path)
    light = models.find("half_plus_three")
    assert isinstance(light, Meaningful)
    light.refuses = Busy("the queue is full", retry_after=2)
    response = Asker(models)("POST", "/v1/models/half_plus_three:predict", {"instances": [1.0]})
    assert (response.status, response.headers) == (503, (("Retry-After", "2"),))


FLOATS = st.floats(width=32, min_value=-(2.0**100), max_value=2.0**100, allow_subnormal=False)


@settings(max_examples=50)
@given(values=st.lists(FLOATS, min_size=1, max_size=20))
def test_the_answer_is_numpys_in_rows_and_in_columns(ask: Asker, values: list[float]) -> None:
    x = np.array(values, np.float32)
    expected = (x * np.float32(0.5) + np.float32(3)).tolist()
    path = "/v1/models/half_plus_three:predict"
    # Shortest decimals of float32 read back as the very same bits.
    rows = ask.json("POST", path, {"instances": values})["predictions"]
    columns = ask.json("POST", path, {"inputs": values})["outputs"]
    assert np.array(rows, np.float32).tolist() == expected == np.array(columns, np.float32).tolist()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["x", "row", "tag", "signal", "sensor", "image", "area", "rooms", "b64", "text", "z"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(
    model=st.sampled_from(["half_plus_three", "three", "linear", "light", "price", "words"]),
    verb=st.sampled_from(["predict", "classify", "regress"]),
    body=st.dictionaries(
        st.sampled_from(["instances", "inputs", "examples", "context", "signature_name"]), JSON_VALUES, min_size=1
    ),
)
def test_whatever_json_comes_is_answered_or_refused(ask: Asker, model: str, verb: str, body: dict[str, Any]) -> None:
    response = ask("POST", f"/v1/models/{model}:{verb}", json.dumps(body).encode())
    found = orjson.loads(response.body)
    assert response.status == 200 or (response.status == 400 and list(found) == ["error"])
