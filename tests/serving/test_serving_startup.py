"""What a server does before its first answer, and what it leaves for later."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from graphs_from_elsewhere import linear

from mlctl.recipe import serve_defaults
from mlctl.stages.serving import OneModel, serve
from mlctl.stages.serving_plan import ServeFlags, server_settings

PROTOCOLS = "mlctl.serving.protocols."
LATER = {
    *(f"{PROTOCOLS}{each}" for each in ("tensorflow_serving", "torchserve", "torchserve_management", "invocations")),
    *(f"{PROTOCOLS}{each}" for each in ("natural_bodies", "given_rows", "csv_rows", "form_data", "numpy_body")),
    f"{PROTOCOLS}open_inference_statistics",
    "mlctl.serving.telemetry.metrics",
    "mlctl.serving.telemetry.exposition",
    "mlctl.serving.openapi.document",
    "mlctl.serving.repository.repository",
    "mlctl.serving.guards.token_guard",
    "mlctl.serving.grpc.calls",
    "csv",
    "email",
    "http.client",
    "pydantic",
    "onnx",
    "grpc",
    "PIL",
    "tokenizers",
}
"""What nobody who asks in the Open Inference Protocol needs."""
NEEDED = {f"{PROTOCOLS}open_inference", f"{PROTOCOLS}open_inference_requests", "orjson", "httptools", "onnxruntime"}

# The server ends at the moment in which it takes requests, as if it had been told to.
SERVED = """
import asyncio, gc, sys
from pathlib import Path
from mlctl.serving import server
from mlctl.stages.serving import OneModel, serve
from mlctl.stages.serving_plan import ServeFlags, server_settings

async def wait(self):
    if not self._event.is_set():
        print(*sys.modules)
        print(gc.isenabled(), gc.get_freeze_count() > 0)

async def unless(self, work):
    await work

server._Told.wait, server._Told.unless = wait, unless
serve(OneModel("m", Path(sys.argv[1])), server_settings(ServeFlags(port=0)), as_json=False, is_quiet=True)
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The modules of a server of a file that takes requests, and the state of its garbage collector."""
    graph = tmp_path_factory.mktemp("served") / "model.onnx"
    onnx.save(linear(), str(graph))
    command = [sys.executable, "-c", SERVED, str(graph)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split() for line in found.stdout.splitlines()]


def test_a_server_loads_what_infers_and_no_protocol_that_nobody_has_asked_for(said: list[list[str]]) -> None:
    assert set(said[0]) & (LATER | NEEDED) == NEEDED


def test_python_looks_for_garbage_again_once_requests_are_taken(said: list[list[str]]) -> None:
    assert said[1] == ["True", "True"]


def test_how_to_serve_is_settled_without_numpy() -> None:
    """Whoever serves says how many threads NumPy's OpenBLAS has, which must be said before the import."""
    code = "import sys, mlctl.stages.serving_plan as plan; plan.server_settings(plan.ServeFlags()); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "numpy" not in found.stdout.split()


def test_a_server_that_does_not_start_leaves_python_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mlctl.serving.server import Server

    seen: list[tuple[bool, str | None]] = []

    def run(self: Server) -> None:
        seen.append((gc.isenabled(), os.environ.get("OPENBLAS_NUM_THREADS")))
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "run", run)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    with pytest.raises(KeyboardInterrupt):
        serve(
            OneModel(serve_defaults.MODEL_NAME, tmp_path), server_settings(ServeFlags()), as_json=False, is_quiet=True
        )
    # What the user says of threads holds.
    assert seen == [(False, "3")]
    assert gc.isenabled()
