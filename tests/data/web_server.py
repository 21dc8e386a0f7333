"""A real web server on this machine, which can be told how to fail."""

import hashlib
import re
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from typing import TypeAlias

import pytest

from mlctl.data.remote_retrying import Patience

LONGEST_STALL = 60
CONTENT = bytes(range(256)) * 1200
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "/data/digits.csv.gz"


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By their names in lower case."""


@dataclass
class WebFile:
    """What a path holds."""

    content: bytes
    names_version: bool = True
    """Whether an ETag is sent."""
    continues: bool = True
    """Whether ranges are honoured."""
    announces_length: bool = True
    """Whether Content-Length is sent; else the body comes in HTTP's chunks."""

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    world: "WebServer"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_CONNECT(self) -> None:
        self._answer()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: what came is in `asked`."""

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.world.asked.append(Asked(self.command, self.path, headers))
        script = self.world.script
        (script.popleft() if script else as_usual)(self)

    def say(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def serve(self, file: WebFile, most: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        """The file, or the rest that was asked for; at most so many bytes of the body, and then the line is dropped."""
        start = self._start(file)
        body = file.content[start:]
        self.send_response(206 if start else 200)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(file.content) - 1}/{len(file.content)}")
        if file.names_version:
            self.send_header("ETag", file.etag)
        if file.announces_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command == "HEAD":
            return
        self._send(body[:most], file.announces_length, is_whole=most is None)
        self.close_connection = most is not None

    def _send(self, body: bytes, is_plain: bool, is_whole: bool) -> None:
        if is_plain:
            self.wfile.write(body)
            return
        for at in range(0, len(body), 1 << 16):
            part = body[at : at + (1 << 16)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        if is_whole:
            self.wfile.write(b"0\r\n\r\n")

    def _start(self, file: WebFile) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        is_same = self.headers.get("If-Range") in (None, file.etag)
        return int(asked[1]) if asked and file.continues and is_same else 0


Act: TypeAlias = Callable[[Handler], None]
"""How one request is answered."""


def as_usual(handler: Handler) -> None:
    """The file, or 404."""
    handler.world.usual(handler)


def answering(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Act:
    """This answer, whatever was asked."""
    return lambda handler: handler.say(status, headers, body)


def dropping_after(count: int) -> Act:
    """So many bytes of the file, and then the connection is closed."""

    def act(handler: Handler) -> None:
        handler.world.usual(handler, most=count)

    return act


def resetting_after(count: int) -> Act:
    """So many bytes of the file, and then the connection is reset."""

    def act(handler: Handler) -> None:
        handler.world.usual(handler, most=count)
        handler.wfile.flush()
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return act


def stalling_after(count: int, until: threading.Event) -> Act:
    """So many bytes of the file, and then silence until the event, at which the line is dropped."""

    def act(handler: Handler) -> None:
        handler.world.usual(handler, most=count)
        handler.wfile.flush()
        until.wait(LONGEST_STALL)

    return act


def waiting_for(event: threading.Event) -> Act:
    """The file, as soon as the event has come."""

    def act(handler: Handler) -> None:
        assert event.wait(LONGEST_STALL)
        handler.world.usual(handler)

    return act


@dataclass
class WebServer:
    """Files by path, acts that answer the next requests in turn, and every request that came."""

    port: int = 0
    scheme: str = "http"
    files: dict[str, WebFile] = field(default_factory=dict)
    script: deque[Act] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)

    def usual(self, handler: Handler, most: int | None = None) -> None:
        """Serve a path as it is; subclasses know more than files."""
        file = self.files.get(handler.path.partition("?")[0])
        if file is None:
            handler.say(404)
        else:
            handler.serve(file, most)

    @property
    def root(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return self.root + path


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what these tests are about; anything else is said."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def served(world: WebServer, tls: SSLContext | None = None) -> Iterator[WebServer]:
    """Run the server until the block ends."""
    handler = type("BoundHandler", (Handler,), {"world": world})
    server = _Server(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        world.scheme = "https"
    world.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ranges(asked: list[Asked]) -> list[str | None]:
    """The `Range` header of every request."""
    return [each.headers.get("range") for each in asked]


@dataclass
class Waits:
    """A patience that writes down its pauses instead of waiting them out."""

    pauses: list[float] = field(default_factory=list)

    def patience(self, attempts: int = 5, silence: float = 30.0) -> Patience:
        return Patience(attempts, silence, pause=self.pauses.append, chance=lambda: 1.0)


def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take out of the environment what could lead a request elsewhere."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
