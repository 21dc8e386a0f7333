"""A repository under a running server: versions come, go and are wrong while requests keep coming."""

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Lab
from published_models import candidate, graph_bytes, rows
from served_processes import ServedProcess, served

from mlctl.runtime.session import OnnxSession
from mlctl.serving.repository.golden import Golden, GoldenRequest
from mlctl.serving.repository.publishing import publish
from mlctl.serving.repository.repository import Repository

PATIENCE = 30.0
ROW = [0.5, -1.0, 2.0, 0.25]


def probabilities(factor: float) -> Any:
    """What the graph of that factor answers to ROW, [3]."""
    return OnnxSession(graph_bytes(factor), threads=1)((np.array([ROW], np.float32),))[0]


def golden_of(factor: float) -> tuple[Golden, str]:
    """Golden requests that the graph of that factor answers."""
    session = OnnxSession(graph_bytes(factor), threads=1)
    (inputs,) = rows(2)
    requests = tuple(GoldenRequest((each[None],), session.all((each[None],))) for each in inputs)
    return Golden(requests, ("p",), 1e-4, "argmax"), "made up"


def put(root: Path, scratch: Path, factor: float, *labels: str, right: bool = True) -> int:
    """Publish the graph of that factor; a wrong one has the golden requests of another."""
    made = candidate(scratch / f"{factor}", factor=factor, fingerprint=f"{int(factor * 1000):064x}")
    golden = golden_of(factor if right else -factor)
    return publish(Repository(root), replace(made, golden=lambda: golden), labels).version


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds, and not for ever."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def live(server: ServedProcess) -> str:
    """The version that answers."""
    return str(server.infer("m", ROW).json["model_version"])


@contextmanager
def hammered(server: ServedProcess, callers: int = 4) -> Iterator[Counter[tuple[int, str]]]:
    """Callers that ask without a break over connections that they keep; what they were told, by status and version."""
    told: Counter[tuple[int, str]] = Counter()
    stop = threading.Event()
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROW}]})
    right = {str(number): probabilities(float(number)) for number in range(1, 9)}

    def ask() -> None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        while not stop.is_set():
            connection.request("POST", "/v2/models/m/infer", body)
            response = connection.getresponse()
            content = json.loads(response.read())
            version = content.get("model_version", "none")
            told[response.status, version] += 1
            np.testing.assert_allclose(content["outputs"][0]["data"], right[version], rtol=1e-6)
        connection.close()

    with ThreadPoolExecutor(callers) as pool:
        asked = [pool.submit(ask) for _ in range(callers)]
        try:
            yield told
        finally:
            stop.set()
        for each in asked:
            each.result()


@pytest.fixture
def repository(lab: Lab) -> Path:
    """With version 1 of the model `m`."""
    put(lab.folder / "models", lab.folder / "scratch", 1.0)
    return lab.folder / "models"


def test_versions_change_under_load_without_a_request_that_fails(lab: Lab, repository: Path) -> None:
    with served(lab, "--repository models --quiet") as server:
        with hammered(server) as told:
            for factor in (2.0, 3.0, 4.0):
                number = put(repository, lab.folder / "scratch", factor)
                eventually(lambda number=number: live(server) == str(number))  # type: ignore[misc]
        assert {status for status, _ in told} == {200}
        assert {version for _, version in told} == {"1", "2", "3", "4"}
        assert server.end().code == 0


def test_a_version_that_answers_wrongly_never_takes_a_request(lab: Lab, repository: Path) -> None:
    with served(lab, "--repository models") as server:
        with hammered(server, callers=1) as told:
            put(repository, lab.folder / "scratch", 2.0, right=False)
            refused = lambda: "mlctl_version_refused{" in server.ask("GET", "/metrics").body.decode()  # noqa: E731
            eventually(refused)
        assert {version for _, version in told} == {"1"}
        assert server.ask("GET", "/v2/health/ready").status == 200
        metrics = server.ask("GET", "/metrics").body.decode()
        assert 'model="m",version="2",reason="it does not answer as it did when it was published' in metrics
        result = server.end()
    assert result.code == 0
    warnings = [line for line in map(json.loads, result.err.splitlines()) if line.get("level") == "warning"]
    assert len(warnings) == 1
    assert "m version 2 is refused: it does not answer as it did when it was published" in warnings[0]["event"]
    assert "version 1 stays" in warnings[0]["event"]
    (model,) = lab.json("models models")
    assert "golden request 1 of 2" in json.dumps(model)
    assert "golden request 1 of 2" in lab("models models").out


def test_promote_and_rollback_move_what_is_live(lab: Lab, repository: Path) -> None:
    put(repository, lab.folder / "scratch", 2.0)
    assert lab("promote m@1 --repository models").code == 0
    with served(lab, "--repository models --quiet") as server:
        assert live(server) == "1"
        assert server.ask("POST", "/v1/models/m/labels/production:predict", {"instances": [ROW]}).status == 200
        assert lab("promote m@2 --repository models").code == 0
        eventually(lambda: live(server) == "2")
        assert lab("rollback m --repository models").code == 0
        eventually(lambda: live(server) == "1")
        assert server.end().code == 0


def test_a_damaged_version_keeps_a_server_from_starting_and_not_from_going_on(lab: Lab, repository: Path) -> None:
    graph = repository / "m" / "1" / "model.onnx"
    with served(lab, "--repository models --quiet") as server:
        put(repository, lab.folder / "scratch", 2.0)
        eventually(lambda: live(server) == "2")
        content = bytearray(graph.read_bytes())
        content[-1] ^= 1
        graph.chmod(0o644)
        graph.write_bytes(content)
        assert lab("rollback m --repository models").code != 0
        assert live(server) == "2"
        assert server.end().code == 0
    shutil.rmtree(repository / "m" / "2")
    started = lab("serve --repository models --port 0")
    assert started.code == 3
    assert "other bytes than were published" in started.err


def test_models_are_loaded_and_unloaded_by_those_who_may(lab: Lab, repository: Path) -> None:
    token = lab("token create boss --admin --tokens tokens.json").out.strip()
    put(repository, lab.folder / "scratch", 2.0)
    with served(lab, "--repository models --quiet --tokens tokens.json --audit audit.jsonl") as server:
        bearer = {"Authorization": f"Bearer {token}"}
        load = "/v2/repository/models/m/load"
        assert server.ask("POST", load, {}).status == 401
        assert server.ask("POST", load, {"parameters": {"version": "1"}}, **bearer).status == 200
        one = server.ask("POST", "/v2/models/m/versions/1/infer", b"{}", **bearer)
        assert one.status == 400
        assert server.ask("POST", "/v2/repository/models/m/unload", {}, **bearer).status == 200
        assert server.ask("GET", "/v2/models/m/ready", **bearer).status == 503
        assert server.ask("POST", load, {}, **bearer).status == 200
        assert server.ask("GET", "/v2/models/m/ready", **bearer).status == 200
        for method, path in (
            ("POST", "/v2/repository/index"), ("POST", "/models?url=m/1"), ("PUT", "/models/m/1?min_worker=1"),
            ("DELETE", "/models/m/1"), ("PUT", "/models/m/2/set-default"), ("GET", "/models"),
        ):  # fmt: skip
            server.ask(method, path, **bearer)
        assert server.end().code == 0
    audited = [json.loads(line) for line in (lab.folder / "audit.jsonl").read_text().splitlines()]
    assert [(each["caller"], each["action"], each["status"]) for each in audited] == [
        ("boss", "load", 200), ("boss", "infer", 400), ("boss", "unload", 200), ("boss", "load", 200),
        ("boss", "index", 200), ("boss", "register", 200), ("boss", "scale", 200),
        ("boss", "unregister", 200), ("boss", "set-default", 409),
    ]  # fmt: skip
    changes = ("load", "unload", "register", "scale", "unregister")
    assert [(each["model"], each["version"]) for each in audited if each["action"] in changes] == [
        ("m", 1), ("m", None), ("m", 2), ("m", 1), ("m", 1), ("m", 1),
    ]  # fmt: skip
    assert token not in (lab.folder / "tokens.json").read_text()


def test_a_question_about_managing_that_cannot_be_is_refused_after_a_look_at_who_asks(
    lab: Lab, repository: Path
) -> None:
    token = lab("token create boss --admin --tokens tokens.json").out.strip()
    with served(lab, "--repository models --tokens tokens.json --audit audit.jsonl") as server:
        assert server.ask("POST", "/models?url=..").status == 401
        assert server.ask("POST", "/models?url=..", Authorization=f"Bearer {token}").status == 400
        result = server.end()
    (line,) = map(json.loads, (lab.folder / "audit.jsonl").read_text().splitlines())
    assert (line["caller"], line["action"], line["status"]) == ("boss", "register", 400)
    logged = [each for each in map(json.loads, result.err.splitlines()) if each.get("path") == "/models"]
    assert [(each["caller"], each["status"]) for each in logged] == [("anonymous", 401), ("boss", 400)]


def test_a_model_that_cannot_be_loaded_later_and_one_that_leaves_concern_themselves_alone(
    lab: Lab, repository: Path
) -> None:
    health = ("/v2/health/ready", "/ping")
    with served(lab, "--repository models") as server:
        broken = repository / "trunc" / "1"
        broken.mkdir(parents=True)
        (broken / "model.onnx").write_bytes(graph_bytes()[:100])
        eventually(lambda: 'mlctl_version_refused{model="trunc"' in server.ask("GET", "/metrics").body.decode())
        assert [server.ask("GET", path).status for path in (*health, "/v2/models/trunc/ready")] == [200, 200, 503]
        (repository / "m").rename(lab.folder / "away")
        eventually(lambda: server.infer("m", ROW).status == 404)
        assert [server.ask("GET", path).status for path in health] == [503, 503]
        (lab.folder / "away").rename(repository / "m")
        eventually(lambda: server.infer("m", ROW).status == 200)
        assert [server.ask("GET", path).status for path in health] == [200, 200]
        result = server.end()
    assert result.code == 0
    events = [each.get("event") for each in map(json.loads, result.err.splitlines()) if each.get("level") == "warning"]
    assert "m, whose version 1 was live, is not in the repository any more" in events
