"""Large bodies: one bad request keeps nobody waiting and takes no memory, and no right one is refused."""

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import wire_models
from conftest import Lab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_models import graph_bytes
from served_processes import ServedProcess, served
from v2_harness import Asker as TensorAsker
from v2_harness import small_catalogue
from wire_models import Asker, Meaningful, catalogue, graph

from mlctl.serving.protocols import large_bodies, open_inference_requests
from mlctl.serving.protocols.large_bodies import counts_of, counts_outside_strings
from mlctl.serving.signature import InputMeaning, Meaning

MILLIONS = 4_000_000
PATIENCE = 1.0
"""Seconds. The worst of the bodies below took the server 5 and more at this size, on a machine like the slowest."""


def pixels() -> Meaningful:
    """pixels [n, 1, 2, 2] from four columns, to their sum [n, 1]."""
    from onnx import helper

    nodes = [helper.make_node("ReduceSum", ["pixels", "axes"], ["sum"], keepdims=0)]
    inputs: wire_models.Ports = {"pixels": ("float32", ["n", 1, 2, 2])}
    made = graph(nodes, inputs, {"sum": ("float32", ["n", 1])}, {"axes": np.array([2, 3])})
    return Meaningful("pixels", 1, made, Meaning("regression", (), (InputMeaning("pixels", tuple("abcd")),)))


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Asker:
    models = catalogue(tmp_path_factory.mktemp("models"))
    models.put(pixels())
    return Asker(models)


@pytest.fixture(scope="module")
def ask_tensors() -> TensorAsker:
    return TensorAsker(small_catalogue().put(pixels()))


BAD = [
    ("/v1/models/pixels:predict", "application/json", b'{"instances":[' + b"1," * MILLIONS + b"1]}", 400),
    ("/v1/models/pixels:predict", "application/json", b'{"instances":[' + b"{}," * MILLIONS + b"1]}", 413),
    ("/v1/models/pixels:predict", "application/json", b'{"instances":[' + b"[]," * MILLIONS + b"1]}", 400),
    ("/v1/models/words:predict", "application/json", b'{"instances":[' + b"{}," * MILLIONS + b"1]}", 413),
    ("/v1/models/three:predict", "application/json", b'{"instances":[' + b"{}," * MILLIONS + b"1]}", 413),
    ("/predictions/pixels", "application/json", b"[" + b"{}," * MILLIONS + b"1]", 413),
    ("/invocations?model=pixels", "application/json", b"[" + b"1," * MILLIONS + b"1]", 400),
    ("/invocations?model=pixels", "text/csv", b"1," * MILLIONS + b"1\n", 400),
    ("/invocations?model=pixels", "text/csv", b"a,b,c,d\n" + b"1," * MILLIONS + b"1\n", 400),
    ("/invocations?model=pixels", "text/csv", b'1,"\n",' * MILLIONS + b"1\n", 413),
    ("/invocations?model=pixels", "text/csv", b"1,1,1,1\n" + b"\n" * MILLIONS, 413),
]


@pytest.mark.parametrize(
    ("path", "media", "body", "status"), BAD, ids=[f"{path} {body[:24]!r}" for path, _, body, _ in BAD]
)
def test_what_no_right_request_holds_is_refused_before_it_is_read(
    ask: Asker, path: str, media: str, body: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: object) -> Any:
        raise AssertionError("the body was parsed")

    for module in ("natural_bodies.from_json", "invocations.from_json"):
        monkeypatch.setattr(f"mlctl.serving.protocols.{module}", never)
    monkeypatch.setattr("mlctl.serving.protocols.tensorflow_serving.decoded", never)
    response = ask("POST", path, body, media)
    assert response.status == status, response.body
    assert len(response.body) < 400


@pytest.mark.parametrize("opening", [b"{}", b"[]", b'{"a":1}'])
def test_what_no_right_tensors_hold_is_refused_before_it_is_read(
    ask_tensors: TensorAsker, opening: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: object) -> Any:
        raise AssertionError("the body was parsed")

    monkeypatch.setattr(open_inference_requests, "decoded", never)
    body = b'{"inputs":[' + (opening + b",") * (MILLIONS // 4) + b"1]}"
    response = ask_tensors("POST", "/v2/models/pixels/infer", body)
    assert response.status == 400
    assert list(orjson.loads(response.body)) == ["error"]


@contextmanager
def _asked_for_health(server: ServedProcess) -> Iterator[list[float]]:
    """How long each of many answers to another caller takes, meanwhile."""
    waits: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            started = time.monotonic()
            assert server.ask("GET", "/v2/health/ready").status == 200
            waits.append(time.monotonic() - started)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield waits
    finally:
        is_over.set()
        thread.join()


def _resident(server: ServedProcess) -> int:
    """Bytes of memory that the process has."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def test_others_are_answered_while_bad_bodies_come(lab: Lab) -> None:
    (lab.folder / "softmax.onnx").write_bytes(graph_bytes())
    with served(lab, "softmax.onnx") as server:
        for path, body in [
            ("/v2/models/softmax/infer", b'{"inputs":[' + b"{}," * MILLIONS + b"1]}"),
            ("/v2/models/softmax/infer", b'{"inputs":[' + b"[]," * MILLIONS + b"1]}"),
            ("/v1/models/softmax:predict", b'{"instances":[' + b"{}," * MILLIONS + b"1]}"),
            ("/v1/models/softmax:predict", b'{"instances":[' + b"1," * MILLIONS + b"1]}"),
        ]:
            with _asked_for_health(server) as waits:
                status = server.ask("POST", path, body, Content_Type="application/json").status
            assert status in (400, 413)
            assert max(waits) < PATIENCE
        assert _resident(server) < 256 << 20
        server.end()


def numbers(count: int) -> list[list[list[list[int]]]]:
    """So many rows of the model `pixels`."""
    return (np.arange(4 * count).reshape(count, 1, 2, 2) % 256).tolist()  # type: ignore[no-any-return]


def sums(rows: list[Any]) -> list[list[float]]:
    return np.sum(np.array(rows, np.float32), axis=(2, 3)).tolist()  # type: ignore[no-any-return]


ROWS = 60_000
"""In the protocols some 1.5 to 5 MB."""


def test_large_right_rows_are_answered(ask: Asker) -> None:
    rows = numbers(ROWS)
    flat = np.array(rows).reshape(ROWS, 4).tolist()
    wanted = sums(rows)
    named = [dict(zip("abcd", row, strict=True)) for row in flat]
    for body in ({"instances": rows}, {"inputs": rows}, {"instances": [{"pixels": row} for row in rows]}):
        assert ask.json("POST", "/v1/models/pixels:predict", body).popitem()[1] == wanted
        assert ask.json("POST", "/invocations?model=pixels", body) == {"predictions": wanted}
    meant = {"predictions": [{"prediction": each} for (each,) in wanted]}
    csv = "\n".join(",".join(map(str, row)) for row in flat).encode()
    for body_in, media in (
        (named, "application/json"),
        ({"dataframe_records": named}, "application/json"),
        ({"dataframe_split": {"data": flat, "index": list(range(ROWS))}}, "application/json"),
        ({"inputs": {name: [row[place] for row in flat] for place, name in enumerate("abcd")}}, "application/json"),
        (csv, "text/csv"),
        (b"a,b,c,d\r\n\r\n" + csv.replace(b"\n", b"\r\n\r\n"), "text/csv"),
    ):
        found = ask.json("POST", "/invocations?model=pixels", body_in, media)
        assert [next(iter(each.values())) if isinstance(each, dict) else each[0] for each in found["predictions"]] == [
            each["prediction"] for each in meant["predictions"]
        ]
    examples = {"examples": [{"pixels": row} for row in flat]}
    assert ask.json("POST", "/v1/models/pixels:regress", examples) == {"results": [each for (each,) in wanted]}
    columns = {"examples": [{name: [value] for name, value in row.items()} for row in named]}
    assert ask.json("POST", "/v1/models/pixels:regress", columns) == {"results": [each for (each,) in wanted]}


@pytest.mark.parametrize("is_nested", [False, True])
def test_large_right_tensors_are_answered(ask_tensors: TensorAsker, is_nested: bool) -> None:
    rows = numbers(4 * ROWS)
    tensor = {"name": "pixels", "datatype": "FP32", "shape": [4 * ROWS, 1, 2, 2]}
    data: Any = rows if is_nested else np.ravel(np.array(rows)).tolist()
    response = ask_tensors("POST", "/v2/models/pixels/infer", orjson.dumps({"inputs": [{**tensor, "data": data}]}))
    assert response.status == 200
    assert orjson.loads(response.body)["outputs"][0]["data"] == [each for (each,) in sums(rows)]


def test_texts_may_hold_whatever_marks_they_like(ask: Asker, ask_tensors: TensorAsker) -> None:
    text = '{[:,]}{}[],"\\' * 50_000
    found = ask.json("POST", "/v1/models/three:predict", {"instances": [
        {"tag": text, "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]}
    ]})  # fmt: skip
    assert found["predictions"][0]["tag_out"] == text
    tensor = {"name": "in_object", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
    response = ask_tensors("POST", "/v2/models/texts/infer", orjson.dumps({"id": text, "inputs": [tensor]}))
    assert orjson.loads(response.body)["outputs"][0]["data"] == [text]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('a"\\{}[],:é'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('a"\\{}[]'), inner, max_size=4),
)


@given(VALUES, st.integers(1, 9), st.sampled_from([0, 1 << 16]))
def test_outside_of_strings_are_the_marks_alone(value: Any, piece: int, few: int) -> None:
    def marks(said: Any) -> tuple[int, int]:
        inner = [*said.values()] if isinstance(said, dict) else said if isinstance(said, list) else []
        found = [marks(each) for each in inner]
        objects, lists = sum(each for each, _ in found), sum(each for _, each in found)
        return objects + isinstance(said, dict), lists + isinstance(said, list)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_bodies, "_PIECE", piece)
        patch.setattr(large_bodies, "LARGE", few)
        text = orjson.dumps(value)
        found = counts_outside_strings(text, counts_of(text))
    assert (found.objects, found.lists) == marks(value)


@st.composite
def right_requests(draw: st.DrawFn) -> tuple[str, Any]:
    """For models of tensors, of columns and of texts, in any of the protocols' forms."""
    count = draw(st.integers(1, 30))
    rows = numbers(count)
    flat = np.array(rows).reshape(count, 4).tolist()
    more: dict[str, Any] = draw(st.sampled_from([{}, {"extra": "{}[[,"}, {"extra": 5, "é": None}]))
    named = [{**dict(zip("abcd", row, strict=True)), **more} for row in flat]
    texts = draw(st.lists(st.text('one two{[]},:"\\', min_size=1), min_size=1, max_size=8))
    three = [{"tag": {"b64": ""}, "signal": [1] * 5, "sensor": [[1, 2], [3, 4]]}] * count
    return draw(st.sampled_from([
        ("/v1/models/pixels:predict", {"instances": rows}),
        ("/v1/models/pixels:predict", {"inputs": {"pixels": rows}}),
        ("/v1/models/pixels:predict", {"instances": [{"pixels": row} for row in rows]}),
        ("/v1/models/pixels:predict", {"instances": named}),
        ("/v1/models/pixels:regress", {"examples": [{"pixels": row} for row in flat]}),
        ("/v1/models/pixels:regress", {"examples": [{key: [value] for key, value in row.items()} for row in named]}),
        ("/v1/models/half_plus_three:predict", {"instances": [row[0] for row in flat]}),
        ("/v1/models/half_plus_three:predict", {"instances": [{"x": row[0]} for row in flat]}),
        ("/v1/models/half_plus_three:regress", {"examples": [{"x": [row[0]]} for row in flat]}),
        ("/v1/models/three:predict", {"instances": three}),
        ("/v1/models/words:predict", {"instances": texts}),
        ("/v1/models/words:predict", {"instances": [{"text": {"b64": "b25l"}} for _ in texts]}),
        ("/v1/models/words:predict", {"instances": [[1, 2]] * count}),
        ("/v1/models/words:predict", {"instances": [[1]] * count}),
        ("/invocations?model=pixels", {"dataframe_split": {"columns": [*"dcba"], "data": flat}}),
        ("/invocations?model=pixels", {"inputs": {name: [row[name] for row in named] for name in "abcd"}}),
        ("/predictions/pixels", named[0]),
        ("/predictions/words", texts[0]),
    ]))  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(right_requests(), st.booleans())
def test_no_right_request_is_refused_however_little_is_let_pass(
    ask: Asker, asked: tuple[str, Any], is_indented: bool
) -> None:
    path, value = asked
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 if is_indented else 0)
    wanted = ask("POST", path, body, "application/json")
    with pytest.MonkeyPatch.context() as patch:
        # A few more of everything: what stands around the rows.
        patch.setattr(large_bodies, "LARGE", 4)
        found = ask("POST", path, body, "application/json")
    assert (found.status, found.body) == (wanted.status, wanted.body)
    assert wanted.status == 200, wanted.body
