"""What a caller sends, and what the application sees of it."""

import asyncio
import email.utils
import http.client
import json
import socket
import time
from collections.abc import Iterator

import aiohttp
import httpx2
import pytest
from http_servers import (
    Running,
    answers_in,
    chunked,
    exchange,
    read_all,
    read_answer,
    request_of,
    running,
)

from mlctl.serving.http.messages import Response
from mlctl.serving.http.reading import MOST_HEAD_BYTES, MOST_HEADERS
from mlctl.serving.settings import Limits

MOST_BYTES = 500_000
BODY = bytes(range(256)) * 64


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Limits(max_request_bytes=MOST_BYTES)) as server:
        yield server


def test_a_client_of_the_standard_library_is_answered_over_one_connection(server: Running) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port)
    client.request("POST", "/a%20b/%C3%A9?x=1&y=%20", BODY, {"X-Two": "words"})
    first = client.sock
    said = json.loads(client.getresponse().read())
    assert (said["method"], said["path"], said["query"]) == ("POST", "/a b/é", "x=1&y=%20")
    assert (said["bytes"], said["client"], said["encrypted"]) == (len(BODY), "127.0.0.1", False)
    assert said["headers"]["x-two"] == "words"
    client.request("GET", "/again")
    assert json.loads(client.getresponse().read())["path"] == "/again"
    assert client.sock is first
    client.close()


def test_httpx_is_answered(server: Running) -> None:
    with httpx2.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        for number in range(3):
            assert client.post(f"/{number}", content=BODY).json()["bytes"] == len(BODY)
        assert client.get("/text/100000").headers["content-encoding"] == "gzip"


async def _through_aiohttp(port: int) -> list[dict[str, object]]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        plain = await session.post("/plain", data=BODY)
        async with session.post("/chunks", data=BODY, chunked=True, expect100=True) as response:
            pieces = await response.json()
        async with session.post("/pressed", data=BODY, compress="deflate") as response:
            pressed = await response.json()
        return [await plain.json(), pieces, pressed]


def test_aiohttp_is_answered(server: Running) -> None:
    plain, pieces, pressed = asyncio.run(_through_aiohttp(server.port))
    assert plain["digest"] == pieces["digest"] == pressed["digest"]


@pytest.mark.parametrize("size", [1, 7, 4096, 100_000])
def test_chunks_of_any_size_are_one_body(server: Running, size: int) -> None:
    body = BODY[:2000] if size == 1 else BODY * 4
    whole, pieces = exchange(server, request_of("/", body) + chunked(body, size))
    assert whole.said["digest"] == pieces.said["digest"]


def test_trailers_and_extensions_of_chunks_are_thrown_away(server: Running) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    (answer,) = exchange(server, head + b"3;name=value\r\nabc\r\n0\r\nX-Secret: 1\r\nContent-Type: a/b\r\n\r\n")
    assert answer.said["bytes"] == 3
    assert set(answer.said["headers"]) == {"host", "transfer-encoding"}  # type: ignore[call-overload]


def test_a_body_is_asked_for_where_the_caller_waits_for_that(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request_of("/", b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: 3"))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert read_answer(connection).said["bytes"] == 3


def test_a_body_that_is_too_large_is_not_asked_for(server: Running) -> None:
    with server.connect() as connection:
        request = request_of("/", b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: 999999999")
        connection.sendall(request)
        (answer,) = answers_in(read_all(connection))
    assert answer.status == 413


def test_head_has_the_length_and_no_body(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request_of("/big/1000", method="HEAD"))
        head = read_answer(connection, "HEAD")
        connection.sendall(request_of("/after"))
        assert (head.status, head.headers["Content-Length"], head.body) == (200, "1000", b"")
        assert read_answer(connection).said["path"] == "/after"


def test_an_old_client_is_answered_and_left_unless_it_asks_to_stay(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /one HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert read_answer(connection).headers["Connection"] == "keep-alive"
        connection.sendall(b"GET /two HTTP/1.0\r\n\r\n")
        (answer,) = answers_in(read_all(connection))
    assert answer.headers["Connection"] == "close"


def test_a_connection_closes_where_the_caller_says_so(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request_of("/one", b"", "Connection: close") + request_of("/two"))
        (answer,) = answers_in(read_all(connection))
    assert answer.said["path"] == "/one"
    assert answer.headers["Connection"] == "close"


def test_an_answer_says_when_and_who(server: Running) -> None:
    (answer,) = exchange(server, request_of())
    date = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
    assert abs(date - time.time()) < 5
    assert answer.headers["Server"] == "mlctl"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://here:80/a/b?c=d", "/a/b", "c=d"),
        ("http://here", "/", ""),
        ("HTTPS://here?c", "/", "c"),
        ("//a/b?c?d", "//a/b", "c?d"),
        ("/%E2%82%AC%3F%23", "/€?#", ""),
    ],
)
def test_a_target_is_read_as_the_standard_says(server: Running, target: str, path: str, query: str) -> None:
    (answer,) = exchange(server, request_of(target, method="GET"))
    assert (answer.said["path"], answer.said["query"]) == (path, query)


@pytest.mark.parametrize(
    "target",
    ["/%", "/%a", "/%zz", "/a%2Fb", "/a%5cb", "/%ff", "/%C3", "/%00", "/%0d%0a", "/a#b", "*", "/a\x01", "/\xe9", "ftp://x/"],
)  # fmt: skip
def test_a_target_that_could_be_read_in_two_ways_is_refused(server: Running, target: str) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: here\r\n\r\n".encode("latin-1")
    (answer,) = exchange(server, head + request_of("/after"))
    assert answer.status == 400
    assert answer.headers["Connection"] == "close"


HOST = b"POST /first HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        HOST + b"Content-Length: 3, 3\r\n\r\nabc",
        HOST + b"Content-Length: +3\r\n\r\nabc",
        HOST + b"Content-Length: -3\r\n\r\nabc",
        HOST + b"Content-Length: 0x3\r\n\r\nabc",
        HOST + b"Content-Length:\r\n\r\n",
        HOST + b"Content-Length: 18446744073709551617\r\n\r\na",
        HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        HOST + b"Transfer-Encoding: identity\r\n\r\n",
        HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        HOST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
        HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
        HOST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
        HOST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
        HOST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc",
        HOST + b"Transfer-Encoding: chunked\r\n\r\n3;a\nabc\r\n0\r\n\r\n",
        HOST + b"X: a\r\n b\r\n\r\n",
        HOST + b"X: a\rb\r\n\r\n",
        HOST + b"X: a\nY: b\r\n\r\n",
        HOST + b"X: a\x00b\r\n\r\n",
        HOST + b": a\r\n\r\n",
        HOST + b"Host: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"GET /\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_two_servers_could_read_in_two_ways_is_refused_and_nothing_behind_it_is_read(
    server: Running, request_bytes: bytes
) -> None:
    with server.connect() as connection:
        connection.sendall(request_bytes + request_of("/smuggled"))
        (answer,) = answers_in(read_all(connection))
    assert answer.status == 400
    assert answer.said["error"]
    assert answer.headers["Connection"] == "close"
    assert "/smuggled" not in server.application.seen


def test_an_offer_to_speak_another_protocol_is_ignored(server: Running) -> None:
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
    answers = exchange(server, request_of("/one?a=b", BODY, *offer) + request_of("/two") + chunked(BODY, 999, *offer))
    one, two, three = (answer.said for answer in answers)
    assert (one["path"], one["query"], one["bytes"], two["path"]) == ("/one", "a=b", len(BODY), "/two")
    assert one["digest"] == three["digest"]
    assert "upgrade" not in one["headers"]  # type: ignore[operator]


def test_a_header_that_comes_twice_is_joined(server: Running) -> None:
    (answer,) = exchange(server, request_of("/", b"", "Accept: a/b", "X:", "accept: c/d"))
    headers = answer.said["headers"]
    assert isinstance(headers, dict)
    assert (headers["accept"], headers["x"]) == ("a/b, c/d", "")


@pytest.mark.parametrize(
    "headers",
    [
        [f"X-{number}: 1" for number in range(MOST_HEADERS)],
        ["X: 1"] * MOST_HEADERS,
        ["X: " + "a" * (MOST_HEAD_BYTES + 2**15)],
        [("X" * (MOST_HEAD_BYTES + 2**15)) + ": a"],
    ],
)
def test_headers_are_bounded_in_number_and_size(server: Running, headers: list[str]) -> None:
    (answer,) = exchange(server, request_of("/", b"", *headers))
    assert answer.status == 431


@pytest.mark.parametrize("endless", [b"3;" + b"a" * 200_000, b"0\r\nX: " + b"a" * 200_000])
def test_what_stands_between_and_behind_chunks_is_bounded(server: Running, endless: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(chunked(b"", 1)[: -len(b"0\r\n\r\n")] + endless)
        (answer,) = answers_in(read_all(connection))
    assert answer.status == 431


def test_a_body_that_is_declared_too_large_is_refused_before_it_comes(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request_of().replace(b"Length: 0", b"Length: %d" % (MOST_BYTES + 1)))
        (answer,) = answers_in(read_all(connection))
    assert (answer.status, answer.headers["Connection"]) == (413, "close")


def test_a_body_in_chunks_is_refused_when_it_becomes_too_large(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(chunked(bytes(MOST_BYTES + 5000), 30_000)[:-100])
        (answer,) = answers_in(read_all(connection))
    assert answer.status == 413


def test_a_body_of_exactly_the_largest_size_is_taken(server: Running) -> None:
    whole, pieces = exchange(server, request_of("/", bytes(MOST_BYTES)) + chunked(bytes(MOST_BYTES), 5000))
    assert whole.said["bytes"] == pieces.said["bytes"] == MOST_BYTES


def test_what_an_application_says_in_a_header_cannot_end_the_head() -> None:
    said = Response(200, b"{}", headers=(("X", "a\r\nSet-Cookie: b\x00€"),))
    with running(application=lambda request, respond: respond(said)) as server:
        (answer,) = exchange(server, request_of())
    assert answer.headers["X"] == "a  Set-Cookie: b ?"
    assert answer.headers["Set-Cookie"] is None


def test_an_answer_without_content_has_no_length() -> None:
    with running(application=lambda request, respond: respond(Response(204))) as server, server.connect() as connection:
        connection.sendall(request_of())
        answer = read_answer(connection)
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (204, b"", None)


def test_small_answers_are_not_held_back(server: Running) -> None:
    with server.connect() as connection:
        begin = time.perf_counter()
        for _ in range(50):
            connection.sendall(request_of())
            read_answer(connection)
        seconds = time.perf_counter() - begin
    assert connection.family == socket.AF_INET
    assert seconds < 50 * 0.02  # Nagle's algorithm against delayed acknowledgements would cost 0.04 s each
