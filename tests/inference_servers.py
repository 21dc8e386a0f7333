"""A real server on this machine that speaks the Open Inference Protocol v2, and can be told how to fail."""

import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

NAMES = {"float32": "FP32", "float16": "FP16", "uint8": "UINT8", "int64": "INT64"}
HEADER_LENGTH = "Inference-Header-Content-Length"

Rows: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Served:
    """A model on the server: one input and one output, by name, dtype and shape with -1 for open sizes."""

    answers: Callable[[Rows], Rows]
    input: tuple[str, str, list[int]]
    output: tuple[str, str, list[int]]
    platform: str = "onnxruntime_onnx"


@dataclass
class InferenceWorld:
    """One model called `net`, acts that answer the next inferences in turn, and what came."""

    served: Served
    is_binary: bool = True
    tells_of_itself: bool = True
    """Whether there is a `/v2`."""
    most_rows: int | None = None
    version: str = "1"
    script: deque["Act"] = field(default_factory=deque)
    batches: list[int] = field(default_factory=list)
    """Rows of every inference that was answered."""
    paths: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2/models/net"

    def metadata(self) -> dict[str, Any]:
        model = self.served
        tensors = {"inputs": model.input, "outputs": model.output}
        described = {
            key: [{"name": name, "datatype": NAMES.get(dtype, dtype), "shape": shape}]
            for key, (name, dtype, shape) in tensors.items()
        }
        return {"name": "net", "versions": [self.version], "platform": model.platform, **described}


class InferenceHandler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    world: InferenceWorld

    def do_GET(self) -> None:
        self.world.paths.append(self.path)
        extensions = ["binary_tensor_data"] if self.world.is_binary else []
        known = {
            "/v2": {"name": "toy", "version": "3", "extensions": extensions},
            "/v2/models/net": self.world.metadata(),
            "/v2/models/net/versions/1": self.world.metadata(),
        }
        found = known.get(self.path) if self.world.tells_of_itself or self.path != "/v2" else None
        self.say(404 if found is None else 200, json.dumps(found or {"error": "unknown model"}).encode())

    def do_POST(self) -> None:
        self.world.paths.append(self.path)
        self.content = self.rfile.read(int(self.headers["Content-Length"]))
        script = self.world.script
        (script.popleft() if script else as_usual)(self)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def rows(self) -> Rows:
        """The one tensor that came, by either encoding."""
        length = self.headers.get(HEADER_LENGTH)
        header = json.loads(self.content[: int(length)] if length else self.content)
        (tensor,) = header["inputs"]
        name, dtype, _ = self.world.served.input
        assert (tensor["name"], tensor["datatype"]) == (name, NAMES[dtype])
        if not length:
            return np.array(tensor["data"], dtype).reshape(tensor["shape"])
        part = self.content[int(length) :]
        assert len(part) == tensor["parameters"]["binary_data_size"]
        return np.frombuffer(part, dtype).reshape(tensor["shape"])

    def tell(self, found: Rows, **changes: Any) -> None:
        """The output, in the encoding of the server; `changes` are to its description."""
        name, dtype, _ = self.world.served.output
        tensor: dict[str, Any] = {"name": name, "datatype": NAMES[dtype], "shape": list(found.shape)}
        part = b""
        if self.world.is_binary:
            part = found.astype(dtype).tobytes()
            tensor["parameters"] = {"binary_data_size": len(part)}
        else:
            tensor["data"] = found.tolist()
        head = json.dumps(
            {"model_name": "net", "model_version": self.world.version, "outputs": [{**tensor, **changes}]}
        )
        headers = {HEADER_LENGTH: str(len(head))} if self.world.is_binary else {}
        self.world.batches.append(len(found))
        self.say(200, head.encode() + part, **headers)


Act: TypeAlias = Callable[[InferenceHandler], None]
"""How one inference is answered."""


def as_usual(handler: InferenceHandler) -> None:
    """The model's answer, unless the batch is too large."""
    rows, most = handler.rows(), handler.world.most_rows
    if most is not None and len(rows) > most:
        handler.say(400, json.dumps({"error": f"batch size must be <= {most}"}).encode())
    else:
        handler.tell(handler.world.served.answers(rows))


def refusing(status: int, **headers: str) -> Act:
    """This status, and a reason."""
    return lambda handler: handler.say(status, b'{"error": "not now\\u001b[31m"}', **headers)


def saying(body: bytes, **headers: str) -> Act:
    """Status 200 and this body."""
    return lambda handler: handler.say(200, body, **headers)


def hanging_up(handler: InferenceHandler) -> None:
    """Half of an answer, and the line is dropped."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"outputs"')
    handler.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are expected; anything else is said."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serving(world: InferenceWorld, port: int = 0) -> Iterator[InferenceWorld]:
    """Run the server until the block ends; on `port`, where one is given."""
    handler = type("BoundHandler", (InferenceHandler,), {"world": world})
    server = _Server(("127.0.0.1", port), handler)
    world.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
