"""Tokens, audit, log and metrics around a server that real callers reach over a real network."""

import asyncio
import gzip
import http.client
import json
import os
import resource
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
from clocks import Clock
from prometheus_client.parser import text_string_to_metric_families

from mlctl.serving.application import Application
from mlctl.serving.guards.audit import FileAudit
from mlctl.serving.guards.token_guard import TokenGuard
from mlctl.serving.guards.tokens import Scopes, create_token, revoke_token
from mlctl.serving.http.listening import listen
from mlctl.serving.http.messages import Request, Respond, Response
from mlctl.serving.http.routing import Operation, Route, Scope
from mlctl.serving.refusals import Malformed, Refused
from mlctl.serving.settings import Limits, Listening
from mlctl.serving.telemetry.exposition import Family, Sample, exposition
from mlctl.serving.telemetry.logs import open_logs

MOST_BYTES = 1000
SECONDS = 30.0
"""After which a test gives up."""
INFER, LOAD = "/v2/models/digits/infer", "/v2/repository/models/digits/load"


@dataclass(frozen=True)
class Answer:
    """What a caller got."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Server:
    """A server with one route of each scope, and the files of its guards."""

    def __init__(self, folder: Path) -> None:
        self.tokens, self.audit_file = folder / "tokens.json", folder / "audit.jsonl"
        made = {"digits": Scopes(("digits",)), "admin": Scopes(is_admin=True), "slow": Scopes(rate=0.5)}
        self.headers = {
            name: {"Authorization": f"Bearer {create_token(self.tokens, name, scopes)}"}
            for name, scopes in made.items()
        }
        self.clock = Clock()
        self.handled = 0
        self.is_named = True
        """Whether what names no model in its path does so elsewhere."""
        self.log, self._log_end = os.pipe()
        self._port = 0
        self._started = threading.Event()

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)) as connection:
            connection.request(method, path, body or None, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), SECONDS)

    def status(self, path: str = INFER, who: str | None = None) -> int:
        return self.ask("POST", path, self.headers[who] if who else None, b"{}").status

    def audited(self) -> list[Any]:
        return [json.loads(line) for line in self.audit_file.read_bytes().splitlines()]

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True)
        thread.start()
        assert self._started.wait(SECONDS)
        yield
        self._loop.call_soon_threadsafe(self._end.set)
        thread.join(SECONDS)
        assert not thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        logs = open_logs(self._log_end)
        guard = TokenGuard(self.tokens, logs.events.tell, clock=self.clock)
        audit = FileAudit(self.audit_file, logs.events.tell, clock=self.clock)
        self.application = Application(self._routes(), guard, audit, logs.access)
        limits = Limits(max_request_bytes=MOST_BYTES)
        listener = await listen(self.application, Listening(port=0), limits, refuse=self.application.refuse)
        self._port = listener.port
        self._started.set()
        await self._end.wait()
        await listener.drain(SECONDS)
        audit.close()
        logs.close(SECONDS)
        os.close(self._log_end)

    def _routes(self) -> tuple[Route, ...]:
        def handle(request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
            self.handled += 1
            respond(Response(200, b"{}"))

        def refusal(refused: Refused) -> Response:
            return Response(refused.status, json.dumps({"refused": refused.what}).encode())

        found: tuple[tuple[str, str, Scope, str], ...] = (
            ("POST", "/v2/models/{model}/infer", "infer", ""),
            ("POST", "/v2/repository/models/{model}/load", "admin", "load"),
            ("GET", "/v2/health/ready", "open", ""),
            ("POST", "/invocations", "infer", ""),
            ("POST", "/models", "admin", "register"),
        )

        def named(request: Request) -> str | None:
            if not self.is_named:
                raise Malformed("there are several models, such as 'secret'")
            return "digits"

        return tuple(
            Route(method, path, handle, scope, refusal, Operation("", ""), names, action)
            for method, path, scope, action in found
            for names in (None if "{" in path else named,)
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    with server.running():
        yield server
    os.close(server.log)


def test_callers_reach_what_their_tokens_were_made_for_and_learn_what_is_missing(server: Server) -> None:
    assert server.ask("GET", "/v2/health/ready").status == 200
    unknown = server.ask("POST", INFER, {"Authorization": "Bearer mlctl_x"}, b"{}")
    assert (unknown.status, unknown.headers["www-authenticate"]) == (401, "Bearer")
    assert [server.status(INFER, who) for who in (None, "digits", "admin")] == [401, 200, 200]
    assert server.status("/v2/models/other/infer", "digits") == 403
    assert [server.status(LOAD, who) for who in (None, "digits", "admin")] == [401, 403, 200]
    assert server.status(INFER, "slow") == 200
    again = server.ask("POST", INFER, server.headers["slow"], b"{}")
    assert (again.status, again.headers["retry-after"]) == (429, "2")


def test_a_token_that_is_revoked_is_worth_nothing_a_second_later(server: Server) -> None:
    assert server.status(INFER, "digits") == 200
    revoke_token(server.tokens, "digits")
    assert server.status(INFER, "digits") == 200
    server.clock.pass_by(1.0)
    assert server.status(INFER, "digits") == 401


def test_the_audit_says_who_did_what_and_leaves_out_who_is_nobody(server: Server) -> None:
    server.ask("GET", "/v2/health/ready")
    server.status(INFER)
    server.status(INFER, "digits")
    server.status(LOAD, "digits")
    server.status(LOAD, "admin")
    assert [(line["caller"], line["action"], line["model"], line["status"]) for line in server.audited()] == [
        ("digits", "infer", "digits", 200),
        ("digits", "load", "digits", 403),
        ("admin", "load", "digits", 200),
    ]
    assert {line["client"] for line in server.audited()} == {"127.0.0.1"}


@pytest.mark.parametrize("path", ["/invocations", "/models"])
def test_who_may_not_ask_learns_nothing_of_what_is_wrong_with_the_question(server: Server, path: str) -> None:
    server.is_named = False
    assert [server.status(path, who) for who in (None, "digits", "admin")] == [401, 403, 400]
    assert b"secret" not in server.ask("POST", path, server.headers["digits"]).body
    # Who asked wrongly is known all the same.
    assert [(line["caller"], line["status"]) for line in server.audited()] == [
        ("digits", 403),
        ("admin", 400),
        ("digits", 403),
    ]
    server.is_named = True
    assert server.status(path, "admin") == 200


def test_without_room_for_the_audit_nothing_is_served_and_what_is_open_still_is(server: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        refused = server.ask("POST", INFER, server.headers["digits"], b"{}")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        before = server.handled
        assert [server.status(path, "admin") for path in (INFER, LOAD)] == [503, 503]
        assert server.handled == before
        assert server.ask("GET", "/v2/health/ready").status == 200
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    server.clock.pass_by(1.0)
    assert server.status(INFER, "digits") == 200
    assert [line["status"] for line in server.audited()] == [503, 200]


def test_every_request_is_one_line_of_the_log_whatever_it_holds(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.running():
        given = server.ask("POST", INFER, {**server.headers["digits"], "X-Request-Id": "r-1"}, b"{}")
        made = server.ask("GET", "/%5b2J%e2%80%ae", {"X-Request-Id": "a [2J b"})
    with os.fdopen(server.log, "rb") as stream:
        lines = [json.loads(line) for line in stream.read().splitlines()]
    assert [(line["method"], line["path"], line["status"], line["caller"], line["model"]) for line in lines] == [
        ("POST", INFER, 200, "digits", "digits"),
        ("GET", "/[2J\u202e", 404, "anonymous", None),
    ]
    assert [line["request_id"] for line in lines] == [each.headers["x-request-id"] for each in (given, made)]
    assert lines[0]["request_id"] == "r-1"
    assert "[" not in lines[1]["request_id"]


def test_what_never_becomes_a_whole_request_is_refused_in_the_routes_form_and_logged(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.running():
        large = server.ask("POST", INFER, {"X-Request-Id": "r-1"}, b"x" * (MOST_BYTES + 1))
        pressed = server.ask("POST", INFER, {"Content-Encoding": "gzip"}, gzip.compress(b"x" * (MOST_BYTES + 1)))
        elsewhere = server.ask("POST", "/nowhere", None, b"x" * (MOST_BYTES + 1))
        with closing(server.connect()) as connection:
            connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
            nonsense = connection.makefile("rb").read()
        assert server.audited() == []
    assert [(each.status, *json.loads(each.body)) for each in (large, pressed, elsewhere)] == [
        (413, "refused"), (413, "refused"), (413, "error"),
    ]  # fmt: skip
    assert nonsense.startswith(b"HTTP/1.1 400 ")
    with os.fdopen(server.log, "rb") as stream:
        lines = [json.loads(line) for line in stream.read().splitlines()]
    assert [(line["method"], line["path"], line["status"], line["model"], line["client"]) for line in lines] == [
        ("POST", INFER, 413, "digits", "127.0.0.1"),
        ("POST", INFER, 413, "digits", "127.0.0.1"),
        ("POST", "/nowhere", 413, None, "127.0.0.1"),
        ("-", "-", 400, None, "127.0.0.1"),
    ]
    assert (lines[0]["request_id"], large.headers["x-request-id"]) == ("r-1", "r-1")


def test_answers_are_counted_by_their_routes_and_not_by_what_callers_make_up(server: Server) -> None:
    for number in range(3):
        server.ask("GET", f"/made/up/{number}")
    server.status(INFER, "digits")
    server.status("/v2/models/other/infer", "admin")
    samples = [
        Sample((("route", route), ("status", str(status))), count)
        for (route, status), count in server.application.responses.items()
    ]
    page = exposition([Family("responses_total", "counter", "Answers.", samples)], "text").decode()
    [family] = text_string_to_metric_families(page)
    assert {(each.labels["route"], each.labels["status"]): each.value for each in family.samples} == {
        ("", "404"): 3,
        ("/v2/models/{model}/infer", "200"): 2,
    }
