"""A server of HTTP in a thread of its own, and raw sockets that talk to it."""

import asyncio
import hashlib
import http.client
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import uvloop

from mlctl.serving.http.listening import Listener, listen
from mlctl.serving.http.messages import Application, Drop, Request, Respond, Response
from mlctl.serving.settings import Limits, Listening

SECONDS_BEFORE_GIVING_UP = 20
T = TypeVar("T")


class Echo:
    """Tells every caller what arrived of his request; `/hold/...` when it is told to, `/big/N` with N bytes."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        """The paths of all requests, in the order of their arrival."""
        self.held: dict[str, Respond] = {}
        """By path, those that wait."""
        self.dropped: list[str] = []
        """The paths of those whose callers have gone."""
        self.changed = threading.Condition()

    def __call__(self, request: Request, respond: Respond) -> Drop | None:
        """An application."""
        path = request.path
        with self.changed:
            self.seen.append(path)
            if path.startswith("/hold"):
                self.held[path] = respond
            self.changed.notify_all()
        if path.startswith("/hold"):
            return lambda: self._drop(path)
        if path.startswith("/big/"):
            respond(Response(200, b"x" * int(path.rpartition("/")[2]), "application/octet-stream"))
        elif path.startswith("/text/"):
            respond(Response(200, b"abc " * (int(path.rpartition("/")[2]) // 4), "text/plain"))
        else:
            respond(Response(200, echo(request)))
        return None

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until something that the server's thread does is so."""
        with self.changed:
            assert self.changed.wait_for(is_so, SECONDS_BEFORE_GIVING_UP)

    def _drop(self, path: str) -> None:
        with self.changed:
            self.dropped.append(path)
            self.changed.notify_all()


def echo(request: Request) -> bytes:
    """What arrived of a request, as JSON."""
    said = {
        "method": request.method,
        "path": request.path,
        "query": request.raw_query,
        "headers": dict(request.headers),
        "bytes": len(request.body),
        "digest": hashlib.sha256(request.body).hexdigest(),
        "client": request.client,
        "encrypted": request.is_encrypted,
    }
    return json.dumps(said).encode()


@dataclass
class Running:
    """A server that runs."""

    loop: asyncio.AbstractEventLoop
    listener: Listener
    application: Echo
    logged: list[dict[str, object]] = field(default_factory=list)
    """What went wrong in the event loop."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.listener.port

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), SECONDS_BEFORE_GIVING_UP)

    def call(self, function: Callable[[], T]) -> T:
        """Call it on the event loop."""

        async def called() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(SECONDS_BEFORE_GIVING_UP)

    def start_drain(self, seconds: float) -> "Future[int]":
        """Begin to drain it."""
        return asyncio.run_coroutine_threadsafe(self.listener.drain(seconds), self.loop)

    def answer(self, path: str, body: bytes = b"{}") -> None:
        """Answer a request that is held."""
        self.application.wait_for(lambda: path in self.application.held)
        respond = self.application.held.pop(path)
        self.call(lambda: respond(Response(200, body)))


@contextmanager
def running(
    limits: Limits | None = None, listening: Listening | None = None, application: Application | None = None
) -> Iterator[Running]:
    """A server, drained at the end; nothing may have gone wrong in its event loop."""
    echo_application = Echo()
    loop = uvloop.new_event_loop()
    logged: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: logged.append(context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        starting = listen(application or echo_application, listening or Listening(port=0), limits or Limits())
        listener = asyncio.run_coroutine_threadsafe(starting, loop).result(SECONDS_BEFORE_GIVING_UP)
        server = Running(loop, listener, echo_application, logged)
        yield server
        server.start_drain(0).result(SECONDS_BEFORE_GIVING_UP)
        assert server.call(lambda: listener.held_bytes) == 0
        assert logged == []
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(frozen=True)
class Answer:
    """One response as it came."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def said(self) -> dict[str, object]:
        """Its body's JSON."""
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def read_answer(connection: socket.socket, method: str = "POST") -> Answer:
    """One response, as Python's own client reads it."""
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    body = response.read()
    return Answer(response.status, response.headers, body)


def answers_in(stream: bytes) -> list[Answer]:
    """All responses of a stream of bytes; every one must say its length."""
    source = io.BytesIO(stream)
    found = []
    while line := source.readline():
        version, status, _ = line.split(b" ", 2)
        assert version == b"HTTP/1.1"
        headers = http.client.parse_headers(source)
        if int(status) == 100:
            continue
        found.append(Answer(int(status), headers, source.read(int(headers["Content-Length"]))))
    return found


def exchange(server: Running, request: bytes) -> list[Answer]:
    """What the server answers to some bytes after which the caller says no more."""
    with server.connect() as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return answers_in(read_all(connection))


def request_of(path: str = "/", body: bytes = b"", *headers: str, method: str = "POST") -> bytes:
    """A request with a body of a declared length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, size: int, *headers: str, path: str = "/") -> bytes:
    """The same in chunks."""
    lines = [f"POST {path} HTTP/1.1", "Host: here", "Transfer-Encoding: chunked", *headers, "", ""]
    pieces = [body[begin : begin + size] for begin in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return "\r\n".join(lines).encode() + framed + b"0\r\n\r\n"


def attempt(listening: Listening) -> None:
    """Listen, and stop at once."""

    async def once() -> None:
        listener = await listen(Echo(), listening, Limits())
        await listener.drain(0)

    asyncio.run(once())
