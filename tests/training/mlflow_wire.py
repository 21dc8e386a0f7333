"""A local server that speaks the few calls of MLflow's REST API that tracking needs, and can fail in every way."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PREFIX = "/api/2.0/mlflow/"
PAGE = 4
"""Values of a metric that one answer holds."""


FAILURES = {"refuse": (503, b"\x1b[31mbusy"), "nonsense": (200, b"<html>hello</html>"), "redirect": (307, b"")}


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


class World:
    """What the server knows, and how it behaves."""

    def __init__(self) -> None:
        self.uri = ""
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.behaviour = ""
        """'' to answer; 'refuse', 'nonsense', 'redirect' or 'hang' to do that; 'lose' to obey and drop the answer."""
        self.let_go = threading.Event()
        """Ends every hanging."""

    @property
    def run(self) -> dict[str, Any]:
        """The only run."""
        (run,) = self.runs.values()
        return run

    def values(self, metric: str) -> list[tuple[int, float]]:
        """The metric's steps and values in the only run, in the order in which they came."""
        return [(each["step"], each["value"]) for each in self.run["metrics"] if each["key"] == metric]

    def obey(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        method = getattr(self, "_" + path.replace("/", "_").replace("-", "_"))
        answer: dict[str, Any] = method(**asked)
        return answer

    def _experiments_get_by_name(self, experiment_name: str) -> dict[str, Any]:
        if experiment_name not in self.experiments:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"no {experiment_name}")
        return {"experiment": {"experiment_id": self.experiments[experiment_name], "name": experiment_name}}

    def _experiments_create(self, name: str) -> dict[str, Any]:
        self.experiments[name] = str(len(self.experiments) + 1)
        return {"experiment_id": self.experiments[name]}

    def _runs_create(
        self, experiment_id: str, run_name: str, start_time: int, tags: list[dict[str, str]]
    ) -> dict[str, Any]:
        assert experiment_id in self.experiments.values()
        assert start_time > 1_600_000_000_000  # milliseconds
        run = f"run-{len(self.runs)}"
        self.runs[run] = {"name": run_name, "status": "RUNNING", "metrics": [], "params": {}, "tags": tags}
        return {"run": {"info": {"run_id": run, "run_uuid": run}}}

    def _runs_log_batch(
        self, run_id: str, metrics: list[dict[str, Any]] | None = None, params: list[dict[str, str]] | None = None
    ) -> dict[str, Any]:
        run = self._known(run_id)
        if len(metrics or ()) > 1000 or len(params or ()) > 100:
            raise Refused(400, "INVALID_PARAMETER_VALUE", "too many")
        for each in params or ():
            assert len(each["value"]) <= 500
            assert run["params"].setdefault(each["key"], each["value"]) == each["value"]
        for metric in metrics or ():
            assert set(metric) == {"key", "value", "timestamp", "step"}
            assert isinstance(metric["step"], int)
            assert isinstance(metric["timestamp"], int)
            run["metrics"].append(metric)
        return {}

    def _runs_update(self, run_id: str, status: str, end_time: int | None = None) -> dict[str, Any]:
        run = self._known(run_id)
        run["status"], run["end_time"] = status, end_time
        return {"run_info": {"run_id": run_id}}

    def _metrics_get_history(self, run_id: str, metric_key: str, page_token: str = "0") -> dict[str, Any]:
        found = [each for each in self._known(run_id)["metrics"] if each["key"] == metric_key]
        start = int(page_token)
        more = {"next_page_token": str(start + PAGE)} if start + PAGE < len(found) else {}
        return {"metrics": found[start : start + PAGE], **more}

    def _known(self, run: str) -> dict[str, Any]:
        if run not in self.runs:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"no run {run}")
        return self.runs[run]


class _Server(ThreadingHTTPServer):
    world: World


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self._answer(parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()})

    def do_POST(self) -> None:
        self._answer(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _answer(self, path: str, asked: dict[str, Any]) -> None:
        world = self.server.world
        world.requests.append((path, dict(self.headers)))
        behaviour = world.behaviour
        if behaviour == "hang":
            world.let_go.wait(60)
            return
        status, answer = FAILURES.get(behaviour) or self._obeyed(path, asked)
        if behaviour == "lose":
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        if status == 307:
            self.send_header("Location", f"{world.uri}/elsewhere")
        self.end_headers()
        self.wfile.write(answer)

    def _obeyed(self, path: str, asked: dict[str, Any]) -> tuple[int, bytes]:
        assert path.startswith(PREFIX), path
        try:
            return 200, json.dumps(self.server.world.obey(path.removeprefix(PREFIX), asked)).encode()
        except Refused as refused:
            return refused.status, json.dumps({"error_code": refused.code, "message": refused.message}).encode()


@contextmanager
def mlflow_server() -> Iterator[World]:
    """A world with a server of its own on 127.0.0.1."""
    world = World()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.world = world
        world.uri = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield world
        finally:
            world.let_go.set()
            server.shutdown()
            thread.join()
