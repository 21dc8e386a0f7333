"""`mlctl serve` as its users start, ask and end it."""

import json
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import Lab, kill
from published_models import graph_bytes, rows
from served_processes import ServedProcess, served

from mlctl.runtime.session import OnnxSession


@pytest.fixture
def folder(lab: Lab) -> Path:
    """With `softmax.onnx` in it."""
    (lab.folder / "softmax.onnx").write_bytes(graph_bytes())
    return lab.folder


def test_a_file_is_served_as_the_session_answers(lab: Lab, folder: Path) -> None:
    (inputs,) = rows(8)
    expected = OnnxSession(folder / "softmax.onnx", threads=1)((inputs,))
    with served(lab, "softmax.onnx") as server:
        assert server.announced["models"] == [{"name": "softmax", "version": 1}]
        for row, wanted in zip(inputs, expected, strict=True):
            answer = server.infer("softmax", row.tolist())
            assert answer.status == 200, answer.body
            np.testing.assert_allclose(answer.json["outputs"][0]["data"], wanted, rtol=1e-6)
        result = server.end()
    assert (result.code, result.out) == (0, "")
    lines = [json.loads(line) for line in result.err.splitlines()]
    assert [line["status"] for line in lines if "status" in line] == [200] * 8
    assert "told to end: what was accepted has 30 s" in [line.get("event") for line in lines]


def test_a_finished_recipe_is_served_without_being_made_again(finished_lab: Lab) -> None:
    recipe = finished_lab.folder / "whole.yaml"
    recipe.write_text(recipe.read_text().replace("eval:", "serve: {port: 1, batching: {max_size: 8}}\n\neval:"))
    pixels = {f"pixel_{number}": 12 if number % 4 < 2 else 1 for number in range(16)}
    with served(finished_lab, "whole.yaml --threads 1") as server:
        assert server.announced["models"] == [{"name": "whole", "version": 1}]
        answer = server.ask("POST", "/predictions/whole", pixels, Content_Type="application/json")
        assert answer.status == 200, answer.body
        assert answer.json["label"] == "left"
        assert server.end().code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_finished_when_the_server_is_told_to_end(lab: Lab, folder: Path, number: int) -> None:
    with served(lab, "softmax.onnx --quiet") as server:
        told = threading.Event()

        def ask(_: int) -> list[int]:
            found = []
            while not told.is_set():
                try:
                    found.append(server.infer("softmax", [1.0, 2.0, 3.0, 4.0]).status)
                except ConnectionError:
                    # Nobody takes connections any more; one that the system had queued by then is closed unseen.
                    assert told.is_set()
            return found

        with ThreadPoolExecutor(4) as pool:
            asked = pool.map(ask, range(4))
            for _ in range(50):
                assert server.infer("softmax", [0.0, 0.0, 0.0, 1.0]).status == 200
            told.set()
            result = server.end(number)
            statuses = [status for each in asked for status in each]
    assert (result.code, result.err) == (0, "")
    assert set(statuses) == {200}


def test_readiness_is_told_apart_from_life(lab: Lab, folder: Path) -> None:
    with served(lab, "softmax.onnx --quiet") as server:
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/softmax/ready", "/ping"):
            assert server.ask("GET", path).status == 200, path
        assert server.ask("GET", "/v2/models/other/ready").status in (400, 404)
        assert server.end().code == 0


def test_a_server_that_cannot_answer_is_never_left_behind(lab: Lab, folder: Path) -> None:
    (folder / "broken.onnx").write_bytes(graph_bytes()[:100])
    broken = lab("serve broken.onnx --port 0")
    assert broken.code == 3
    assert "broken.onnx" in broken.err
    assert "next: " in broken.err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = lab(f"serve softmax.onnx --port {taken.getsockname()[1]}")
    assert busy.code == 2
    assert "the port is taken by another process" in busy.err
    cuda = lab("serve softmax.onnx --port 0 --device cuda")
    assert cuda.code == 5
    assert "CUDAExecutionProvider" in cuda.err
    for result in (broken, busy, cuda):
        assert "Traceback" not in result.err


def test_settings_of_a_recipe_may_be_given_to_a_server_of_a_file(lab: Lab, folder: Path) -> None:
    # The port of the command line goes before that of the setting, which nobody could have.
    with served(lab, "softmax.onnx serve.port=1 --set serve.max_request_bytes=50", MLCTL_STORE="elsewhere") as server:
        assert server.infer("softmax", [0.0] * 4).status == 413
        assert server.end().code == 0
    with lab.start("serve softmax.onnx serve.port=0 --json") as process:
        try:
            assert process.stdout is not None
            announced = json.loads(process.stdout.readline())
            assert ServedProcess(process, announced).port not in (0, 8080)
        finally:
            kill(process)


def test_nothing_heavy_is_loaded_for_a_file(lab: Lab, folder: Path) -> None:
    watched = lab.watched("serve softmax.onnx --port 1 --host 203.0.113.1")
    assert watched.code == 2
    heavy = {
        "torch",
        "onnx",
        "pyarrow",
        "PIL",
        "tokenizers",
        "grpc",
        "pydantic",
        "rich",
        "scipy",
        "sklearn",
        "openvino",
    }
    assert not heavy & {name.partition(".")[0] for name in watched.modules}


def test_a_malformed_request_costs_nobody_else_anything(lab: Lab, folder: Path) -> None:
    with served(lab, "softmax.onnx --quiet") as server:
        bad = ServedProcess(server.process, server.announced)
        with ThreadPoolExecutor(2) as pool:
            nonsense = pool.submit(
                lambda: [bad.ask("POST", "/v2/models/softmax/infer", b"\xff" * 100).status for _ in range(100)]
            )
            fine = pool.submit(lambda: [server.infer("softmax", [0.0, 1.0, 2.0, 3.0]).status for _ in range(100)])
            assert set(nonsense.result()) == {400}
            assert set(fine.result()) == {200}
        assert server.end().code == 0


def test_the_selftest_proves_the_model_at_hand_and_ends(lab: Lab, folder: Path) -> None:
    result = lab("serve softmax.onnx --selftest")
    assert result.code == 0, result.err
    assert result.out.startswith("softmax@1: joins ")
    assert result.out.endswith("  holds\n")
    (proof,) = json.loads(lab("serve softmax.onnx --selftest --json").out)
    assert proof["holds"]
    assert {each["what"] for each in proof["trials"]} >= {"batch of 1", "64 callers at once"}


def test_two_servers_of_one_file_do_not_meet(lab: Lab, folder: Path) -> None:
    with served(lab, "softmax.onnx --quiet") as one, served(lab, "softmax.onnx --quiet --name other") as other:
        assert one.infer("softmax", [0.0, 1.0, 2.0, 3.0]).status == 200
        assert other.infer("other", [0.0, 1.0, 2.0, 3.0]).status == 200
        assert other.infer("softmax", [0.0, 1.0, 2.0, 3.0]).status == 404
        assert one.end().code == 0
        assert other.infer("other", [0.0, 1.0, 2.0, 3.0]).status == 200
        assert other.end().code == 0
