"""`mlctl serve` as a process, asked by a real client."""

import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from conftest import Finished, Lab, finished, kill


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ServedProcess:
    """A server that takes requests."""

    process: subprocess.Popen[str]
    announced: dict[str, Any]

    @property
    def port(self) -> int:
        """Of HTTP."""
        return int(urlsplit(str(self.announced["http"])).port or 0)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One request on a connection of its own; a body that is not bytes is sent as JSON."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, content, named)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def infer(self, name: str, row: list[float]) -> Answer:
        """One row of float32 to the model's input `x`."""
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(row)], "data": row}
        return self.ask("POST", f"/v2/models/{name}/infer", {"inputs": [tensor]})

    def end(self, number: int = signal.SIGTERM) -> Finished:
        """Tell it to end, and wait until it has."""
        self.process.send_signal(number)
        return finished(self.process)


@contextmanager
def served(lab: Lab, line: str, **environment: str) -> Iterator[ServedProcess]:
    """`mlctl serve LINE` on a free port, once it takes requests."""
    with lab.start(f"serve {line} --port 0 --json", **environment) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first, finished(process).err
            yield ServedProcess(process, json.loads(first))
        finally:
            kill(process)
