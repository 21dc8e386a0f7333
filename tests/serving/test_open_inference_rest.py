"""The routes of the Open Inference Protocol v2: what they answer, and how they refuse."""

import json
from typing import Any

import numpy as np
import pytest
from v2_harness import ONNX_TYPES, WEIGHTS, Asker, Computed, Versions, linear_graph, small_catalogue

from mlctl.runtime.running import Port
from mlctl.serving.http.messages import Response
from mlctl.serving.http.routing import Router
from mlctl.serving.protocols.open_inference import routes
from mlctl.serving.protocols.open_inference_descriptions import configuration
from mlctl.serving.protocols.open_inference_statistics import statistics_of
from mlctl.serving.refusals import Broken
from mlctl.serving.signature import Meaning, Signature

HEADER = "inference-header-content-length"
ROWS = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
SCORES = (ROWS @ (WEIGHTS * 2)).ravel().tolist()
"""Of version 2; exact, since all values are small multiples of 1/4."""


@pytest.fixture(scope="module")
def catalogue() -> Versions:
    return small_catalogue()


@pytest.fixture(scope="module")
def ask(catalogue: Versions) -> Asker:
    return Asker(catalogue)


def tensor(**changes: Any) -> dict[str, Any]:
    whole = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": ROWS.tolist(), **changes}
    return {name: each for name, each in whole.items() if each is not ...}


def infer(ask: Asker, said: Any, *, model: str = "linear", rest: bytes | None = None, header: str = "") -> Response:
    """Ask for an inference; `rest` are the bytes behind the JSON, whose length is `header` or the true one."""
    head = said if isinstance(said, bytes) else json.dumps(said).encode()
    headers = {} if rest is None else {HEADER: header or str(len(head))}
    return ask("POST", f"/v2/models/{model}/infer", head + (rest or b""), headers)


def told(response: Response) -> Any:
    return json.loads(response.body)


def test_rows_are_answered_by_the_version_that_is_live(ask: Asker) -> None:
    response = infer(ask, {"id": "a1", "inputs": [tensor()]})
    assert (response.status, response.media, response.headers) == (200, "application/json", ())
    assert told(response) == {
        "model_name": "linear",
        "model_version": "2",
        "id": "a1",
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": [2, 3], "data": SCORES},
            {"name": "best", "datatype": "INT64", "shape": [2], "data": [2, 2]},
        ],
    }


def test_a_version_that_is_named_answers(ask: Asker) -> None:
    body = json.dumps({"inputs": [tensor()]}).encode()
    found = told(ask("POST", "/v2/models/linear/versions/1/infer", body))
    assert found["model_version"] == "1"
    assert found["outputs"][0]["data"] == (ROWS @ WEIGHTS).ravel().tolist()
    assert "id" not in found


def test_outputs_come_in_the_order_and_the_form_that_each_is_asked_for(ask: Asker) -> None:
    wanted = [{"name": "best"}, {"name": "scores", "parameters": {"binary_data": True}}]
    response = infer(ask, {"inputs": [tensor()], "outputs": wanted})
    ((name, length),) = response.headers
    assert (name, response.media) == ("Inference-Header-Content-Length", "application/octet-stream")
    head = json.loads(response.body[: int(length)])
    assert head["outputs"] == [
        {"name": "best", "datatype": "INT64", "shape": [2], "data": [2, 2]},
        {"name": "scores", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": 24}},
    ]
    assert np.frombuffer(response.body[int(length) :], "<f4").tolist() == SCORES


def test_one_output_may_be_left_out_of_what_is_binary(ask: Asker) -> None:
    said = {
        "inputs": [tensor()],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "scores"}, {"name": "best", "parameters": {"binary_data": False}}],
    }
    response = infer(ask, said)
    head = json.loads(response.body[: int(dict(response.headers)["Inference-Header-Content-Length"])])
    assert [list(each) for each in head["outputs"]] == [
        ["name", "datatype", "shape", "parameters"],
        ["name", "datatype", "shape", "data"],
    ]


def test_inputs_may_be_mixed_and_their_bytes_lie_in_the_order_of_the_json(ask: Asker, catalogue: Versions) -> None:
    given, rest = [], b""
    dtypes = [dtype for dtype in ONNX_TYPES if dtype != "object"]
    names = dict(zip(dtypes, (port for port in told(ask("GET", "/v2/models/echo"))["inputs"]), strict=True))
    for place, dtype in enumerate(reversed(dtypes)):
        array = np.array([[1, 0, 1]], dtype)
        each = tensor(name=f"in_{dtype}", datatype=names[dtype]["datatype"], shape=[1, 3], data=array.tolist())
        if place % 2:
            del each["data"]
            each["parameters"] = {"binary_data_size": array.nbytes, "unknown": [1]}
            rest += array.tobytes()
        given.append(each)
    found = told(infer(ask, {"inputs": given}, model="echo", rest=rest))
    assert {each["name"]: each["data"] for each in found["outputs"]} == {
        f"out_{dtype}": np.array([1, 0, 1], dtype).tolist() for dtype in dtypes
    }
    (live,) = [live for live in catalogue.live() if live.signature.name == "echo"]
    assert isinstance(live, Computed)
    for port, array in zip(live.signature.inputs, live.seen[-1].inputs, strict=True):
        assert (array.dtype.name, array.flags.aligned, array.flags.c_contiguous) == (port.dtype, True, True)


def test_booleans_among_numbers_are_found_wherever_the_json_has_them(ask: Asker) -> None:
    data: list[Any] = ROWS.ravel().tolist()
    for word in (True, False):
        for place in (0, 7):
            damaged = [*data[:place], word, *data[place + 1 :]]
            many = {"parameters": {"u" * 50: "l" * 50}, "inputs": [tensor(data=damaged)]}
            for said in ({"inputs": [tensor(data=damaged)]}, many):
                response = infer(ask, said)
                assert response.status == 400
                assert told(response)["error"] == f"input 'x' takes FP32, and value {place} is {str(word).lower()}"


def test_a_body_without_json_is_the_one_input_and_gets_bytes(ask: Asker) -> None:
    response = ask("POST", "/v2/models/linear/infer", ROWS.tobytes(), {HEADER: "0"})
    head = json.loads(response.body[: int(response.headers[0][1])])
    assert [each["parameters"] for each in head["outputs"]] == [{"binary_data_size": 24}, {"binary_data_size": 16}]
    texts = ask("POST", "/v2/models/texts/infer", "zwölf".encode(), {HEADER: "0"})
    assert texts.body.endswith(b"\6\0\0\0" + "zwölf".encode())
    ragged = ask("POST", "/v2/models/linear/infer", ROWS.tobytes()[:-1], {HEADER: "0"})
    assert (ragged.status, told(ragged)["error"]) == (400, "input 'x' has 31 bytes, and FP32 [1, 4] has 16")
    for model in ("linear", "texts"):
        empty = ask("POST", f"/v2/models/{model}/infer", b"", {HEADER: "0"})
        assert (empty.status, told(empty)["error"]) == (400, "the request has no body")
    several = told(ask("POST", "/v2/models/echo/infer", b"1", {HEADER: "0"}))["error"]
    assert several == "a body without JSON is for a model with one input; this has 12"


def test_classes_are_asked_for_as_triton_has_it(ask: Asker) -> None:
    response = infer(ask, {"inputs": [tensor()], "outputs": [{"name": "scores", "parameters": {"classification": 1}}]})
    (found,) = told(response)["outputs"]
    assert found == {
        "name": "scores", "datatype": "BYTES", "shape": [2, 1], "data": [f"{SCORES[2]}:2:cat", f"{SCORES[5]}:2:cat"],
    }  # fmt: skip


def test_what_json_cannot_hold_is_refused_and_can_be_had_as_bytes(ask: Asker) -> None:
    fixed = {"name": "in_float32", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": 24}}
    raw = np.array([[np.inf, np.nan, 0], [1, 2, 3]], np.float32).tobytes()
    response = infer(ask, {"inputs": [fixed]}, model="fixed", rest=raw)
    assert (response.status, "ask for it as binary data" in told(response)["error"]) == (406, True)
    said = {"inputs": [fixed], "parameters": {"binary_data_output": True}}
    assert infer(ask, said, model="fixed", rest=raw).body.endswith(raw)


def test_bfloat16_is_sent_as_bytes_alone() -> None:
    # No runtime here computes with bfloat16 in NumPy's arrays: the model gives its input back.
    live = Computed("bits", 1, linear_graph(1))
    live.compute = lambda inputs: inputs
    ports = (Port("x", "bfloat16", (None, 2)),)
    live.signature = Signature("bits", 1, "onnxruntime", ports, ports, Meaning())
    ask = Asker(Versions().put(live))
    assert told(ask("GET", "/v2/models/bits"))["inputs"] == [{"name": "x", "datatype": "BF16", "shape": [-1, 2]}]
    given = {"name": "x", "datatype": "BF16", "shape": [1, 2]}
    framed = {**given, "parameters": {"binary_data_size": 4}}
    said = {"inputs": [framed], "parameters": {"binary_data_output": True}}
    assert infer(ask, said, model="bits", rest=b"\x80\x3f\0\xc0").body.endswith(b"}\x80\x3f\0\xc0")
    for refused, rest in (({"inputs": [framed]}, b"1234"), ({"inputs": [{**given, "data": [1, 2]}]}, b"")):
        response = infer(ask, refused, model="bits", rest=rest)
        assert (response.status, "which can be sent as binary data alone" in told(response)["error"]) == (400, True)


INPUTS: list[tuple[Any, str]] = [
    ({}, "the request has no list of inputs"),
    ({"inputs": {}}, "the request has no list of inputs"),
    ({"inputs": []}, "the model also takes the input 'x'"),
    ({"inputs": [7]}, "input 0 of the request has no name"),
    ({"inputs": [tensor(name=7)]}, "input 0 of the request has no name"),
    ({"inputs": [tensor(datatype=...)]}, "input 'x' must say its datatype and its shape"),
    ({"inputs": [tensor(shape="2,4")]}, "input 'x' must say its datatype and its shape"),
    ({"inputs": [tensor(name="z")]}, "the model has no input 'z'; it takes 'x'"),
    ({"inputs": [tensor(datatype="float32")]}, "input 'x' takes FP32, not 'float32'"),
    ({"inputs": [tensor(shape=[2, 5])]}, "input 'x' takes the shape [-1, 4], not [2, 5]"),
    ({"inputs": [tensor(shape=[-1, 4])]}, "input 'x' cannot be: a size of its shape [-1, 4] is below 1"),
    ({"inputs": [tensor(shape=[0, 4], data=[])]}, "has nothing in it"),
    ({"inputs": [tensor(shape=[2**63, 4])]}, "not nested as its shape"),
    ({"inputs": [tensor(shape=[2**63, 4], data=[1])]}, "has 1 values"),
    ({"inputs": [tensor(), tensor()]}, "input 'x' is given twice"),
    ({"inputs": [tensor(data=...)]}, "must have either data, or the parameter binary_data_size"),
    ({"inputs": [tensor(parameters={"binary_data_size": 32})]}, "must have either data, or"),
    ({"inputs": [tensor(parameters=[])]}, "input 'x' has parameters in a list"),
    ({"inputs": [tensor(parameters={"shared_memory_region": "r"})]}, "lies in shared memory"),
    ({"inputs": [tensor()], "parameters": 7}, "the request has parameters in 7"),
    ({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}, "binary_data_output is 1, and must be true"),
    ({"inputs": [tensor()], "id": 7}, "the request's id is 7, and must be a text"),
    ({"inputs": [tensor()], "outputs": {}}, "the request has outputs in an object"),
    ({"inputs": [tensor()], "outputs": ["scores"]}, "an output that is asked for has no name"),
    ({"inputs": [tensor()], "outputs": [{"name": "z"}]}, "the model has no output 'z'; it gives 'scores', 'best'"),
    ({"inputs": [tensor()], "outputs": [{"name": "best"}] * 2}, "an output is asked for twice"),
    ({"inputs": [tensor()], "outputs": [{"name": "best", "parameters": {"binary_data": "yes"}}]}, "is 'yes', and must"),
    ({"inputs": [tensor()], "outputs": [{"name": "best", "parameters": {"classification": True}}]}, "is no number of"),
    ({"inputs": [tensor()], "outputs": [{"name": "best", "parameters": {"classification": -1}}]}, "is no number of"),
    (b"[", "the request is no JSON"),
    (b"", "the request is no JSON"),
    (b"[]", "the request is a list, and must be an object"),
]


@pytest.mark.parametrize(("said", "what"), INPUTS)
def test_what_is_no_request_is_refused_in_words(ask: Asker, said: Any, what: str) -> None:
    response = infer(ask, said)
    assert response.status == 400
    assert list(told(response)) == ["error"]
    assert what in told(response)["error"]


@pytest.mark.parametrize(
    ("size", "rest", "header", "what"),
    [
        (32, ROWS.tobytes()[:-1], "", "has a binary_data_size of 32 bytes, and 31 are left behind the JSON"),
        (31, ROWS.tobytes(), "", "has 31 bytes, and FP32 [2, 4] has 32"),
        (32, ROWS.tobytes() + b"x", "", "1 bytes follow the last input's"),
        (-1, ROWS.tobytes(), "", "has the binary_data_size -1, which is no size"),
        (True, ROWS.tobytes(), "", "has the binary_data_size true, which is no size"),
        ("32", ROWS.tobytes(), "", "has the binary_data_size '32', which is no size"),
        (2**64, ROWS.tobytes(), "", "which is no size"),
        (32, ROWS.tobytes(), "-1", "the header Inference-Header-Content-Length is '-1'"),
        (32, ROWS.tobytes(), "1e2", "the header Inference-Header-Content-Length is '1e2'"),
        (32, ROWS.tobytes(), "9999", "the header Inference-Header-Content-Length is '9999'"),
        (32, ROWS.tobytes(), "9" * 5000, "the header Inference-Header-Content-Length is '999"),
        (32, ROWS.tobytes(), "٣", "the header Inference-Header-Content-Length is"),
        (32, ROWS.tobytes(), "12", "the request is no JSON"),
    ],
)
def test_what_is_no_frame_is_refused_in_words(ask: Asker, size: Any, rest: bytes, header: str, what: str) -> None:
    given = tensor(data=..., parameters={"binary_data_size": size})
    response = infer(ask, {"inputs": [given]}, rest=rest, header=header)
    assert response.status == 400
    assert what in told(response)["error"]


def test_bytes_need_the_header_that_says_where_they_begin(ask: Asker) -> None:
    given = tensor(data=..., parameters={"binary_data_size": 32})
    response = infer(ask, {"inputs": [given]})
    assert "0 are left behind the JSON, whose length Inference-Header-Content-Length says" in told(response)["error"]


def test_a_model_that_takes_no_requests_is_told_from_one_that_is_not_there() -> None:
    ask = Asker(Versions({}, {}).put(*(live for live in small_catalogue().live() if live.signature.name == "linear")))
    assert ask("POST", "/v2/repository/models/linear/unload", b'{"parameters": {"version": 2}}').status == 200
    assert told(ask("GET", "/v2/models/linear"))["versions"] == ["1"]
    assert ask("GET", "/v2/health/ready").status == 200
    assert told(ask("GET", "/v2/health/ready")) == {"ready": True}
    assert told(ask("GET", "/v2/health/live")) == {"live": True}
    away = ask("POST", "/v2/models/linear/versions/2/infer", b"not even JSON")
    assert (away.status, away.headers) == (503, (("Retry-After", "2"),))
    assert ask("GET", "/v2/models/linear/versions/2/ready").status == 503
    assert told(ask("GET", "/v2/models/linear/ready")) == {"name": "linear", "ready": True}
    assert ask("POST", "/v2/repository/models/linear/unload", b"{}").status == 200
    assert (ask("GET", "/v2/health/ready").status, told(ask("GET", "/v2/health/ready"))) == (503, {"ready": False})
    for path in ("/v2/models/cubic", "/v2/models/linear/versions/3", "/v2/models/linear/versions/x/stats"):
        assert ask("GET", path).status == 404


def test_versions_are_loaded_by_number_or_text_and_what_fails_says_why() -> None:
    catalogue = small_catalogue()
    ask = Asker(catalogue)
    for body in (b'{"parameters": {"version": 2}}', b'{"parameters": {"version": "2"}}'):
        assert ask("POST", "/v2/repository/models/linear/load", body).body == b"{}"
    assert ask("POST", "/v2/repository/models/linear/load", b"  ").status == 200
    assert (
        ask("POST", "/v2/repository/models/linear/unload", b'{"parameters": {"unload_dependents": true}}').status == 200
    )
    assert catalogue.calls == [("load", "linear", "2")] * 2 + [("load", "linear", None), ("unload", "linear", None)]
    assert ask("POST", "/v2/repository/models/linear/load", b'{"parameters": {"version": 9}}').status == 404
    catalogue.defect = "version 2 did not answer its golden requests"
    failed = ask("POST", "/v2/repository/models/linear/load")
    assert (failed.status, told(failed)) == (503, {"error": catalogue.defect})
    for body, what in (
        (b'{"parameters": {"version": 0}}', "the version is 0, and must be a number"),
        (b'{"parameters": {"version": true}}', "the version is true, and must be a number"),
        (b'{"parameters": []}', "parameters are a list, and must be an object"),
        (b'{"parameters": {"file:1/model.onnx": "AA=="}}', "'file:1/model.onnx' cannot be taken"),
        (b"[]", "must be an object"),
        (b"{", "the request is no JSON"),
    ):
        refused = ask("POST", "/v2/repository/models/linear/load", body)
        assert (refused.status, what in told(refused)["error"]) == (400, True)


def test_a_bug_while_a_version_is_loaded_is_answered_and_told_to_the_event_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Buggy(Versions):
        async def load(self, name: str, version: str | None = None) -> None:
            raise ZeroDivisionError(name)

    response = Asker(Buggy())("POST", "/v2/repository/models/linear/load")
    assert response.status == 500
    assert told(response) == {"error": "a bug in the server kept it from that"}
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


def test_the_index_holds_every_version_or_those_that_are_ready() -> None:
    catalogue = small_catalogue()
    ask = Asker(catalogue)
    ask("POST", "/v2/repository/models/linear/unload", b'{"parameters": {"version": 1}}')
    whole = told(ask("POST", "/v2/repository/index"))
    assert {"name": "linear", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"} in whole
    ready = told(ask("POST", "/v2/repository/index", b'{"ready": true}'))
    assert [each for each in whole if each["state"] == "READY"] == ready
    assert len(ready) == len(whole) - 1
    assert ask("POST", "/v2/repository/index", b'{"ready": 1}').status == 400


def test_statistics_are_nanoseconds_of_what_the_batcher_counted() -> None:
    live = Computed("linear", 1, linear_graph(1))
    found = live.statistics
    found.pending = 3
    found.executed(2, 0.5)
    found.executed(2, 0.25)
    found.executed(7, 0.125)
    found.answered(1.5, 0.5, 0.75)
    found.answered(0.5, 0.25, 0.125)
    found.refused("late")
    found.last_inference = 1_800_000_000.25
    (figures,) = told(Asker(Versions().put(live))("GET", "/v2/models/linear/stats"))["model_stats"]
    nothing = {"count": 0, "ns": 0}
    assert figures == {
        "name": "linear",
        "version": "1",
        "last_inference": 1_800_000_000_250,
        "inference_count": 11,
        "execution_count": 3,
        "inference_stats": {
            "success": {"count": 2, "ns": 2_000_000_000},
            "fail": {"count": 1, "ns": 0},
            "queue": {"count": 2, "ns": 750_000_000},
            "compute_input": nothing,
            "compute_infer": {"count": 2, "ns": 875_000_000},
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": nothing,
                "compute_infer": {"count": count, "ns": ns},
                "compute_output": nothing,
            }
            for size, count, ns in ((2, 2, 750_000_000), (7, 1, 125_000_000))
        ],
    }


def test_statistics_are_of_one_version_of_a_model_or_of_all(ask: Asker, catalogue: Versions) -> None:
    def named(path: str) -> list[tuple[str, str]]:
        return [(each["name"], each["version"]) for each in told(ask("GET", path))["model_stats"]]

    assert named("/v2/models/linear/versions/1/stats") == [("linear", "1")]
    assert named("/v2/models/linear/stats") == [("linear", "1"), ("linear", "2")]
    assert len(named("/v2/models/stats")) == len(statistics_of(catalogue)) == 5
    assert ask("GET", "/v2/models/cubic/stats").status == 404


def test_a_configuration_has_the_shapes_of_rows_where_rows_can_be_joined() -> None:
    open_ports = (Port("x", "object", (None, 2)), Port("n", "bfloat16", (None,)))
    closed = (Port("y", "float16", (1, None)),)
    joined = configuration(Signature("m", 3, "openvino", open_ports, open_ports, Meaning()), 16)
    assert (joined["max_batch_size"], joined["version_policy"]) == (16, {"specific": {"versions": [3]}})
    assert joined["input"] == [
        {"name": "x", "data_type": "TYPE_STRING", "dims": [2]},
        {"name": "n", "data_type": "TYPE_BF16", "dims": [1], "reshape": {"shape": []}},
    ]
    alone = configuration(Signature("m", 3, "openvino", open_ports, closed, Meaning()), 16)
    assert (alone["max_batch_size"], "dynamic_batching" in alone) == (0, False)
    assert alone["input"][0]["dims"] == [-1, 2]
    assert alone["output"] == [{"name": "y", "data_type": "TYPE_FP16", "dims": [1, -1]}]


def test_management_is_for_administrators_and_health_for_everybody() -> None:
    scopes = {(route.method, route.path): route.scope for route in routes(small_catalogue())}
    assert {path for (_, path), scope in scopes.items() if scope == "open"} == {
        "/v2", "/v2/health/live", "/v2/health/ready",
    }  # fmt: skip
    assert {path for (_, path), scope in scopes.items() if scope == "admin"} == {
        "/v2/repository/index", "/v2/repository/models/{model}/load", "/v2/repository/models/{model}/unload",
    }  # fmt: skip
    route, parameters = Router(routes(small_catalogue())).find("POST", "/v2/models/a b/versions/3/infer")
    assert (route.path, parameters) == ("/v2/models/{model}/versions/{version}/infer", {"model": "a b", "version": "3"})
    assert json.loads(route.refusal(Broken("why")).body) == {"error": "why"}
