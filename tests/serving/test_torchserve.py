"""TorchServe's inference and management APIs, as its clients and curl use them."""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from wire_models import Asker, Labelled, Meaningful, catalogue, closed, png

from mlctl.serving.http.messages import Request, Response
from mlctl.serving.http.routing import Router
from mlctl.serving.inference import Inference
from mlctl.serving.protocols import torchserve_management
from mlctl.serving.refusals import Late

GREY = png([0, 255], [255, 255])
LIGHT = {"label": "light", "probability": 0.75, "probabilities": {"dark": 0.25, "light": 0.75}}


@pytest.fixture
def models(tmp_path: Path) -> Labelled:
    return catalogue(tmp_path)


@pytest.fixture
def ask(models: Labelled) -> Asker:
    return Asker(models)


def form(*parts: tuple[str, bytes], boundary: str = "------------------------d74496d66958873e") -> tuple[bytes, str]:
    """A form as curl writes it, and its content type."""
    body = b""
    for name, content in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="kitten.png"\r\n'
        body += head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def refused(ask: Asker, method: str, path: str, body: object = b"", media: str = "") -> tuple[int, str, str]:
    response = ask(method, path, body, media)
    found = orjson.loads(response.body)
    assert list(found) == ["code", "type", "message"]
    assert found["code"] == response.status
    return response.status, found["type"], found["message"]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("media", ["image/png", "application/octet-stream", "", "application/x-www-form-urlencoded"])
def test_an_image_file_is_classified(ask: Asker, method: str, media: str) -> None:
    assert ask.json(method, "/predictions/light", GREY, media) == LIGHT


def test_a_version_may_be_named(ask: Asker) -> None:
    assert ask.json("POST", "/predictions/light/1", GREY) == LIGHT
    assert refused(ask, "POST", "/predictions/light/7", GREY)[:2] == (404, "ModelNotFoundException")


def test_curls_form_is_read(ask: Asker) -> None:
    assert ask.json("POST", "/predictions/light", *form(("data", GREY))) == LIGHT
    assert ask.json("POST", "/predictions/light", *form(("any", GREY))) == LIGHT


def test_several_files_of_a_form_are_answered_in_their_order(ask: Asker) -> None:
    dark = png([0, 0], [0, 255])
    found = ask.json("POST", "/predictions/light", *form(("data", GREY), ("data", dark), ("data", GREY)))
    assert [each["label"] for each in found] == ["light", "dark", "light"]


@pytest.mark.parametrize(
    "value", [b64encode(GREY).decode(), {"b64": b64encode(GREY).decode()}, {"data": b64encode(GREY).decode()}]
)
def test_an_image_file_may_be_base64(ask: Asker, value: Any) -> None:
    assert ask.json("POST", "/predictions/light", value) == LIGHT


def test_tensors_are_answered_with_what_they_mean(ask: Asker) -> None:
    tensor = [[[[0, 255], [255, 255]]]]
    for body in (tensor, {"image": tensor}, {"instances": tensor}, {"inputs": tensor}, {"data": tensor}):
        assert ask.json("POST", "/predictions/light", body) == [LIGHT]


def test_a_row_is_answered_alone_and_rows_in_a_list(ask: Asker) -> None:
    row = {"area": 50, "rooms": 2}
    assert ask.json("POST", "/predictions/price", row) == {"prediction": 70.0}
    assert ask.json("POST", "/predictions/price", [row]) == [{"prediction": 70.0}]
    assert ask.json("POST", "/predictions/price", {"area": [50, 60], "rooms": [2, 3]}) == [
        {"prediction": 70.0},
        {"prediction": 90.0},
    ]
    assert ask.json("POST", "/predictions/price", b"area,rooms\r\n50,2\r\n", "text/csv") == [{"prediction": 70.0}]


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (b"one two", "text/plain; charset=utf-8"),
        (b"one two", ""),
        (b"data=one+two", "application/x-www-form-urlencoded"),
        (b'"one two"', "application/json"),
        (b'{"text": "one two"}', ""),
        (form(("data", b"one two"))),
    ],
)
def test_a_text_is_read_however_it_comes(ask: Asker, body: bytes, media: str) -> None:
    assert ask.json("POST", "/predictions/words", body, media) == {"embedding": [3.0]}


def test_texts_are_answered_in_their_order(ask: Asker) -> None:
    assert ask.json("POST", "/predictions/words", ["three three", "one"]) == [
        {"embedding": [6.0]},
        {"embedding": [1.0]},
    ]


def test_a_text_that_begins_like_json_is_a_text(ask: Asker) -> None:
    assert ask.json("POST", "/predictions/words", b"[one] two") == {"embedding": [3.0]}


@pytest.mark.parametrize(
    ("path", "body", "media", "status", "said"),
    [
        ("light", b"", "image/png", 400, "the body is empty"),
        ("light", b"GIF89a", "image/png", 400, "image"),
        (
            "light",
            b"a",
            "video/mp4",
            415,
            "'video/mp4' is not read here; the model takes an image or tensors for 'image'",
        ),
        ("light", b"one", "text/plain", 400, "no JSON"),
        ("light", b"a,b\n1,2\n", "text/csv", 415, "takes no rows"),
        ("light", b"7", "application/json", 400, "not a number"),
        ("price", GREY, "image/png", 415, "takes no images"),
        ("price", b'"one"', "application/json", 400, "not a string"),
        ("price", b'{"area": 1}', "application/json", 400, "column 'rooms' is missing"),
        ("price", b'{"area": [1], "rooms": [1, 2]}', "application/json", 400, "same number of values"),
        ("price", b'{"area": [], "rooms": []}', "application/json", 400, "at least one"),
        ("price", b"{}", "application/json", 400, "column 'area' is missing"),
        ("words", b"\xff\xfe", "text/plain", 400, "UTF-8"),
        ("words", b"data=%ff", "application/x-www-form-urlencoded", 400, "urlencoded"),
        ("three", b"a", "", 400, "no JSON"),
        ("none", b"a", "", 404, "none"),
        ("light", b"a", "multipart/form-data", 400, "names no boundary"),
        ("light", b"--x\r\n\r\n\r\nabc", "multipart/form-data; boundary=x", 400, "ends before"),
        ("light", b"--x--\r\n", "multipart/form-data; boundary=x", 400, "needs one field `data`"),
        ("light", b"--x\r\n\r\na\r\n--x--", "multipart/form-data; boundary=x", 400, "has no headers"),
        ("light", b"--x\r\nA: b\r\n\r\na\r\n--x--", "multipart/form-data; boundary=x", 400, "has no name"),
        ("light", b"--xa\r\n--x--", "multipart/form-data; boundary=x", 400, "has no headers"),
        ("light", *form(("a", GREY), ("b", GREY)), 400, "needs one field `data`"),
        ("light", *form(*[("data", b"")] * 1025), 400, "more than 1,024"),
    ],
)
def test_what_cannot_be_read_is_refused_in_torchserves_form(
    ask: Asker, path: str, body: bytes, media: str, status: int, said: str
) -> None:
    found, _, message = refused(ask, "POST", f"/predictions/{path}", body, media)
    assert (found, said in message) == (status, True), message


def test_a_form_inside_a_form_is_not_read(ask: Asker) -> None:
    inner, media = form(("data", GREY), boundary="inner")
    part = (
        b'--x\r\nContent-Disposition: form-data; name="data"\r\nContent-Type: ' + media.encode() + b"\r\n\r\n" + inner
    )
    assert refused(ask, "POST", "/predictions/light", part + b"\r\n--x--", "multipart/form-data; boundary=x")[0] == 415


class Lame(Meaningful):
    """Refuses every second inference, and only when it is computed."""

    def hold(self) -> Callable[[], None]:
        return lambda: None

    def submit(self, inference: Inference) -> None:
        if len(self.seen) % 2:
            inference.answered(Late("the request's time was over"))
        else:
            super().submit(inference)


def test_one_part_that_is_late_refuses_the_whole(models: Labelled, ask: Asker) -> None:
    words = models.find("words")
    assert isinstance(words, Meaningful)
    words.__class__ = Lame
    assert refused(ask, "POST", "/predictions/words", ["one", "two", "three"])[:2] == (504, "RequestTimeoutException")


def test_the_ping_tells_whether_the_server_is_ready(models: Labelled, ask: Asker) -> None:
    assert (ask("GET", "/ping").status, ask.json("GET", "/ping")) == (200, {"status": "Healthy"})
    closed(models, "light", 1)
    assert ask("GET", "/ping").status == 200
    for name, version in models.there:
        closed(models, name, version)
    assert (ask("GET", "/ping").status, ask.json("GET", "/ping")) == (503, {"status": "Unhealthy"})


def test_models_are_listed_in_pages(ask: Asker) -> None:
    names = ["half_plus_three", "light", "linear", "price", "three", "words"]
    assert ask.json("GET", "/models") == {"models": [{"modelName": each, "modelUrl": each} for each in names]}
    first = ask.json("GET", "/models?limit=4")
    assert (first["nextPageToken"], len(first["models"])) == ("4", 4)
    second = ask.json("GET", f"/models?limit=4&next_page_token={first['nextPageToken']}")
    assert [each["modelName"] for each in second["models"]] == names[4:]
    assert "nextPageToken" not in second


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=a", "limit=%C2%B2", "limit=1e3", "next_page_token=-1", "limit=" + "9" * 400]
)
def test_a_page_that_cannot_be_is_refused(ask: Asker, query: str) -> None:
    assert refused(ask, "GET", f"/models?{query}")[0] == 400


def test_a_model_is_described_as_torchserve_does(models: Labelled, ask: Asker) -> None:
    live = {
        "modelName": "half_plus_three",
        "modelVersion": "123",
        "modelUrl": "half_plus_three/123",
        "minWorkers": 1,
        "maxWorkers": 1,
        "workers": [{"id": "123", "status": "READY"}],
    }
    assert ask.json("GET", "/models/half_plus_three") == [live]
    assert ask.json("GET", "/models/half_plus_three/123") == [live]
    closed(models, "half_plus_three", 122)
    found = ask.json("GET", "/models/half_plus_three/all")
    assert found[1] == live
    reason = "its golden requests were answered wrongly"
    assert found[0]["workers"] == [{"id": "122", "status": "UNLOADED", "reason": reason}]
    assert refused(ask, "GET", "/models/half_plus_three/7")[0] == 404
    assert refused(ask, "GET", "/models/none/all")[0] == 404


def test_a_model_of_the_repository_is_registered(models: Labelled, ask: Asker) -> None:
    closed(models, "half_plus_three", 123)
    found = ask.json("POST", "/models?url=half_plus_three/123&initial_workers=1&synchronous=true")
    assert found == {"status": 'Model "half_plus_three" Version: 123 registered with 1 initial workers'}
    assert models.calls == [("load", "half_plus_three", "123")]
    assert models.find("half_plus_three").signature.version == 123
    found = ask.json("POST", "/models?url=light&model_name=light")
    assert found == {"status": 'Model "light" Version: 1 registered with 1 initial workers'}


@pytest.mark.parametrize(
    ("method", "path", "query", "noted"),
    [
        ("POST", "/models", "url=light", ("light", 1)),
        ("POST", "/models", "url=half_plus_three/122", ("half_plus_three", 122)),
        ("PUT", "/models/half_plus_three", "min_worker=1", ("half_plus_three", 123)),
        ("PUT", "/models/half_plus_three/122", "max_worker=0&min_worker=0", ("half_plus_three", 122)),
        ("DELETE", "/models/half_plus_three/122", "", ("half_plus_three", 122)),
        ("DELETE", "/models/half_plus_three", "", ("half_plus_three", None)),
    ],
)
def test_the_audit_learns_which_version_was_loaded_or_let_go(
    models: Labelled, method: str, path: str, query: str, noted: tuple[str, int | None]
) -> None:
    async def asked() -> Request:
        route, parameters = Router(torchserve_management.routes(models)).find(method, path)
        request = Request(method, path, {}, b"", "", 0.0, query, model=parameters.get("model", ""))
        answers: asyncio.Queue[Response] = asyncio.Queue()
        route.handler(request, parameters, answers.put_nowait)
        assert (await asyncio.wait_for(answers.get(), 30)).status == 200
        return request

    request = asyncio.run(asked())
    assert (request.model, request.version) == noted


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://example.org/model.mar",
        "/etc/passwd",
        "../light",
        "..",
        "light/..",
        "light/../../x",
        "light/1/model.onnx",
        "light/01",
        "file:light",
        "light%00",
        "light%5C1",
    ],
)
def test_nothing_outside_the_repository_is_registered(models: Labelled, ask: Asker, url: str) -> None:
    status, _, message = refused(ask, "POST", f"/models?url={url}")
    # What has a plain name is a model that there is not.
    assert status == (404 if url == "file:light" else 400), message
    assert models.calls in ([], [("load", "file:light", None)])


def test_a_model_keeps_its_name(ask: Asker) -> None:
    assert "by the name that it has" in refused(ask, "POST", "/models?url=light&model_name=other")[2]


def test_workers_let_a_version_take_requests_or_no_more(models: Labelled, ask: Asker) -> None:
    found = ask.json("PUT", "/models/light/1?min_worker=0&max_worker=0&synchronous=true")
    assert found == {"status": "Workers scaled to 0 for model: light, version: 1"}
    assert refused(ask, "POST", "/predictions/light", GREY)[:2] == (503, "ServiceUnavailableException")
    assert ask.json("PUT", "/models/light?min_worker=1") == {"status": "Workers scaled to 1 for model: light"}
    assert ask.json("POST", "/predictions/light", GREY) == LIGHT
    assert models.calls == [("unload", "light", "1"), ("load", "light", None)]


@pytest.mark.parametrize("query", ["min_worker=3", "min_worker=2&max_worker=1", "min_worker=x", "max_worker=-1"])
def test_a_number_of_workers_that_cannot_be_is_refused(models: Labelled, ask: Asker, query: str) -> None:
    assert refused(ask, "PUT", f"/models/light?{query}")[0] == 400
    assert models.calls == []


def test_a_model_is_unregistered(models: Labelled, ask: Asker) -> None:
    assert ask.json("DELETE", "/models/half_plus_three/122") == {"status": 'Model "half_plus_three" unregistered'}
    assert [each.state for each in models.entries("half_plus_three")] == ["unavailable", "ready"]
    assert ask.json("DELETE", "/models/half_plus_three") == {"status": 'Model "half_plus_three" unregistered'}
    assert refused(ask, "DELETE", "/models/none")[:2] == (404, "ModelNotFoundException")


def test_a_version_that_does_not_load_is_refused_with_its_reason(models: Labelled, ask: Asker) -> None:
    models.defect = "version 1 did not answer its golden requests"
    status, kind, message = refused(ask, "POST", "/models?url=light/1")
    assert (status, kind) == (503, "ServiceUnavailableException")
    assert "golden requests" in message


@pytest.mark.parametrize("path", ["/models/light/set-default", "/models/light/1/set-default"])
def test_the_default_is_moved_by_promote_alone(ask: Asker, path: str) -> None:
    status, _, message = refused(ask, "PUT", path)
    assert status == 409
    assert "mlctl promote light@" in message


def test_managing_has_the_admin_scope_and_predicting_has_not(ask: Asker) -> None:
    scopes = {route.path.split("/")[1]: route.scope for route in ask.routes}
    assert (scopes["models"], scopes["predictions"], scopes["ping"]) == ("admin", "infer", "open")
    assert {route.scope for route in ask.routes if route.path.startswith("/models")} == {"admin"}


class Broken(Labelled):
    """Has a bug, and takes its time about it."""

    async def load(self, name: str, version: str | None = None) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def unload(self, name: str, version: str | None = None) -> None:
        await asyncio.sleep(3600)


def management(method: str, path: str, query: str = "") -> tuple[Response, list[BaseException]]:
    """The answer of a broken catalogue whose server ends after a moment, and what its loop was told."""

    async def asked() -> tuple[Response, list[BaseException]]:
        told: list[BaseException] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        route, parameters = Router(torchserve_management.routes(Broken())).find(method, path)
        answers: asyncio.Queue[Response] = asyncio.Queue()
        route.handler(Request(method, path, {}, b"", "", 0.0, query), parameters, answers.put_nowait)
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if task.get_coro().__name__ == "_unload":  # type: ignore[union-attr]
                task.cancel()
        return await asyncio.wait_for(answers.get(), 30), told

    return asyncio.run(asked())


def test_a_bug_is_answered_and_told_to_the_loop() -> None:
    answer, told = management("POST", "/models", "url=light")
    assert answer.status == 500
    assert "ZeroDivisionError" not in answer.body.decode()
    assert [type(each) for each in told] == [ZeroDivisionError]


def test_a_server_that_ends_answers_who_waits() -> None:
    answer, told = management("DELETE", "/models/light")
    assert (answer.status, told) == (503, [])
