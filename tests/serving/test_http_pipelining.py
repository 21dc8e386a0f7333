"""Many requests on one connection, however their bytes are cut, and whatever nonsense comes on another."""

import socket
from collections.abc import Iterator, Sequence

import pytest
from http_servers import Running, answers_in, chunked, exchange, read_all, request_of, running
from hypothesis import given, settings
from hypothesis import strategies as st

from mlctl.serving.http.connection import MOST_IN_FLIGHT
from mlctl.serving.settings import Limits

LIMITS = Limits(max_request_bytes=50_000, slow_seconds=5)
STREAM = b"".join(
    [
        request_of("/one?a=b", b"abc", "X: y"),
        b"GET /two HTTP/1.1\r\nHost: a\r\n\r\n",
        chunked(bytes(range(200)), 33, path="/three"),
        request_of("/big/20000"),
        request_of("/four", b"z" * 40_000),
        request_of("/five", b"abc", "Connection: Upgrade", "Upgrade: h2c"),
        chunked(b"abc", 1, "Expect: 100-continue", path="/six"),
        b"\r\n",
        request_of("/seven", b"", "Connection: close"),
    ]
)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(LIMITS) as server:
        yield server


@pytest.fixture(scope="module")
def whole(server: Running) -> list[tuple[int, bytes]]:
    """What is answered where all comes at once."""
    found = [(each.status, each.body) for each in exchange(server, STREAM)]
    assert [status for status, _ in found] == [200] * 8
    return found


def send_pieces(connection: socket.socket, stream: bytes, cuts: Sequence[int]) -> None:
    """Send the bytes cut at these places, each piece in a segment of its own where the system lets it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for begin, end in zip((0, *cuts), (*cuts, len(stream)), strict=True):
        connection.sendall(stream[begin:end])


@settings(max_examples=60)
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=60).map(sorted))
def test_however_the_bytes_are_cut_the_answers_are_the_same(
    server: Running, whole: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    with server.connect() as connection:
        send_pieces(connection, STREAM, cuts)
        assert [(each.status, each.body) for each in answers_in(read_all(connection))] == whole


def test_a_stream_that_comes_byte_by_byte_is_answered_the_same(server: Running, whole: list[tuple[int, bytes]]) -> None:
    stream = STREAM.replace(b"z" * 40_000, b"z").replace(b"Length: 40000", b"Length: 1")
    with server.connect() as connection:
        send_pieces(connection, stream, range(1, len(stream)))
        found = [(each.status, each.body) for each in answers_in(read_all(connection))]
    assert found[:4] + found[5:] == whole[:4] + whole[5:]


def test_answers_come_in_the_order_of_the_requests(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(
            request_of("/hold/a") + request_of("/middle") + request_of("/hold/b", b"", "Connection: close")
        )
        server.application.wait_for(lambda: {"/hold/a", "/hold/b"} <= server.application.held.keys())
        server.answer("/hold/b", b'{"n": 3}')
        server.answer("/hold/a", b'{"n": 1}')
        one, two, three = answers_in(read_all(connection))
    assert (one.said["n"], two.said["path"], three.said["n"]) == (1, "/middle", 3)


def test_one_connection_has_a_bounded_number_of_requests_in_flight(server: Running) -> None:
    paths = [f"/hold/{number}" for number in range(5 * MOST_IN_FLIGHT)]
    held = server.application.held
    with server.connect() as connection:
        connection.sendall(b"".join(request_of(path) for path in paths) + request_of("/", b"", "Connection: close"))
        for path in paths:
            server.application.wait_for(lambda path=path: path in held)  # type: ignore[misc]
            assert server.call(lambda: len(held)) <= MOST_IN_FLIGHT
            server.answer(path, path.encode())
        answers = answers_in(read_all(connection))
    assert [answer.body.decode() for answer in answers[:-1]] == paths


def test_a_flood_of_requests_is_not_read_while_none_is_answered(server: Running) -> None:
    flood = request_of("/hold/x") * 300_000
    with server.connect() as connection:
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.sendall(flood)
        assert server.call(lambda: server.listener.held_bytes) < 2**20


def test_a_request_that_is_refused_is_answered_after_those_before_it(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request_of("/hold/before") + b"nonsense\r\n\r\n")
        server.answer("/hold/before", b'{"n": 1}')
        first, second = answers_in(read_all(connection))
    assert (first.said["n"], second.status) == (1, 400)


WORDS = st.sampled_from(
    [
        *(b"GET ", b"POST ", b"/", b" HTTP/1.1", b"\r\n", b"\r", b"\n", b"Host: a", b"Content-Length: ", b"5", b"0"),
        *(b"Expect: 100-continue", b"Transfer-Encoding: chunked", b"Connection: Upgrade", b"Upgrade: h2c"),
        *(b"%", b"*", b":", b"\x00", b"\xff"),
    ]
)


@settings(max_examples=150)
@given(noise=st.lists(st.one_of(WORDS, st.binary(max_size=20)), max_size=30).map(b"".join))
def test_no_nonsense_costs_the_server_or_another_caller_anything(server: Running, noise: bytes) -> None:
    with server.connect() as other:
        other.sendall(request_of("/other", b"abc")[:-2])
        for answer in exchange(server, noise):
            assert answer.status in (200, 400, 413, 431)
        other.sendall(b"bc")
        other.shutdown(socket.SHUT_WR)
        (answer,) = answers_in(read_all(other))
        assert answer.said["bytes"] == 3
    assert server.logged == []


@settings(max_examples=80)
@given(
    place=st.integers(0, len(STREAM) - 1),
    damage=st.binary(min_size=1, max_size=4),
)
def test_a_damaged_stream_ends_in_answers_and_a_closed_connection(server: Running, place: int, damage: bytes) -> None:
    stream = STREAM[:place] + damage + STREAM[place + len(damage) :]
    for answer in exchange(server, stream):
        assert answer.status in (200, 400, 413, 415, 431)
    assert server.logged == []
