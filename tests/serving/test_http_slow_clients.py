"""Callers who take their time, take nothing, or go."""

import asyncio
import gc
import gzip
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_servers import Running, answers_in, read_all, read_answer, request_of, running

from mlctl.serving.http.connection import Connection
from mlctl.serving.http.reading import RequestReader
from mlctl.serving.settings import Limits

SLOW_SECONDS = 0.4
IDLE_SECONDS = 0.6


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Limits(max_request_bytes=2**26, slow_seconds=SLOW_SECONDS, idle_seconds=IDLE_SECONDS)) as server:
        yield server


def drip(connection: socket.socket, pieces: Iterator[bytes]) -> float:
    """Send them one after another until the server answers, and give the seconds that took."""
    begin = time.monotonic()
    connection.settimeout(0.02)
    for piece in pieces:
        connection.sendall(piece)
        try:
            if connection.recv(1, socket.MSG_PEEK):
                break
        except TimeoutError:
            continue
    connection.settimeout(20)
    return time.monotonic() - begin


@pytest.mark.parametrize("begin", [b"POST / HTTP/1.1\r\nX: ", request_of("/", bytes(1000))[:-900]])
def test_a_request_that_drips_in_is_refused_and_cut_off(server: Running, begin: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(begin)
        seconds = drip(connection, iter([b"a"] * 500))
        (answer,) = answers_in(read_all(connection))
    assert seconds >= SLOW_SECONDS
    assert (answer.status, answer.headers["Connection"]) == (408, "close")


def test_a_long_body_may_take_longer_than_a_head_while_it_comes_steadily(server: Running) -> None:
    body = bytes(2**20)
    begin = time.monotonic()
    with server.connect() as connection:
        head = request_of("/steady", body)[: -len(body)]
        for piece in (head + body[: 2**16], *(body[start : start + 2**16] for start in range(2**16, len(body), 2**16))):
            connection.sendall(piece)
            time.sleep(SLOW_SECONDS / 8)
        assert read_answer(connection).said["bytes"] == len(body)
    assert time.monotonic() - begin > SLOW_SECONDS


def test_a_body_that_comes_more_slowly_than_64_kib_a_second_is_cut_off(server: Running) -> None:
    body = bytes(2**20)
    with server.connect() as connection:
        connection.sendall(request_of("/crawling", body)[: 2**15 - len(body)])
        seconds = drip(connection, iter([bytes(100)] * 5000))
        (answer,) = answers_in(read_all(connection))
    # Half a second for the 32 KiB, beside what every request has.
    assert seconds >= SLOW_SECONDS + 0.5
    assert (answer.status, answer.headers["Connection"]) == (408, "close")
    assert b"64 KiB" in answer.body


def test_the_time_that_a_request_took_is_not_counted_against_the_next() -> None:
    slow = 1.5
    with running(Limits(slow_seconds=slow)) as server, server.connect() as connection:
        first, second = request_of("/long", bytes(2**17)), request_of("/next")
        connection.sendall(first[:-1])
        time.sleep(1.2 * slow)
        connection.sendall(first[-1:] + second[:10])
        assert read_answer(connection).said["path"] == "/long"
        # Two looks at the time.
        time.sleep(slow / 2)
        connection.sendall(second[10:])
        assert read_answer(connection).said["path"] == "/next"


def test_who_sends_slowly_behind_a_request_in_flight_gets_both_answers(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request_of("/hold/slow") + b"POST /")
        server.application.wait_for(lambda: "/hold/slow" in server.application.held)
        refusals = server.listener.refusals
        before = refusals["slow"]
        give_up = time.monotonic() + 20
        while server.call(lambda: refusals["slow"]) == before:
            assert time.monotonic() < give_up
        server.answer("/hold/slow", b'{"n": 1}')
        first, second = answers_in(read_all(connection))
    assert (first.said["n"], second.status) == (1, 408)


def test_who_goes_on_sending_behind_what_was_refused_is_refused_once(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request_of("/hold/once") + b"nonsense\r\n\r\nmore")
        server.application.wait_for(lambda: "/hold/once" in server.application.held)
        connection.sendall(b"nonsense")
        time.sleep(2 * SLOW_SECONDS)
        connection.sendall(b"nonsense")
        server.answer("/hold/once", b'{"n": 1}')
        first, second = answers_in(read_all(connection))
    assert (first.said["n"], second.status) == (1, 400)


def test_a_request_in_flight_may_take_longer_than_its_bytes_may(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request_of("/hold/long"))
        time.sleep(2 * max(SLOW_SECONDS, IDLE_SECONDS))
        server.answer("/hold/long", b'{"n": 1}')
        assert read_answer(connection).said["n"] == 1


def test_an_idle_connection_is_closed_without_a_word(server: Running) -> None:
    with server.connect() as fresh, server.connect() as used:
        begin = time.monotonic()
        used.sendall(request_of())
        assert read_answer(used).status == 200
        assert read_all(fresh) == read_all(used) == b""
        assert time.monotonic() - begin >= IDLE_SECONDS


def test_who_does_not_take_his_answers_is_read_no_more_and_cut_off(server: Running) -> None:
    seen = len(server.application.seen)
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        connection.sendall(request_of("/big/30000000") + request_of("/behind") * 1000)
        server.application.wait_for(lambda: len(server.application.seen) > seen)
        give_up = time.monotonic() + 20
        while server.call(lambda: server.listener.connections):
            assert time.monotonic() < give_up
            time.sleep(0.02)
        assert server.application.seen[seen:] == ["/big/30000000"]
        try:
            assert len(read_all(connection)) < 30_000_000
        except ConnectionResetError:
            assert server.call(lambda: server.listener.held_bytes) == 0


def test_who_takes_a_large_answer_steadily_gets_all_of_it(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request_of("/big/30000000") + request_of("/behind", b"", "Connection: close"))
        large, behind = answers_in(read_all(connection))
    assert (len(large.body), behind.said["path"]) == (30_000_000, "/behind")


def test_a_caller_that_goes_is_not_worked_for(server: Running) -> None:
    connection = server.connect()
    connection.sendall(request_of("/hold/reset"))
    server.application.wait_for(lambda: "/hold/reset" in server.application.held)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    server.application.wait_for(lambda: "/hold/reset" in server.application.dropped)
    server.answer("/hold/reset")


def test_a_caller_that_closes_is_told_from_one_that_waits(server: Running) -> None:
    gone, waiting = server.connect(), server.connect()
    gone.sendall(request_of("/hold/gone"))
    waiting.sendall(request_of("/hold/waiting"))
    server.application.wait_for(lambda: {"/hold/gone", "/hold/waiting"} <= server.application.held.keys())
    gone.close()
    waiting.shutdown(socket.SHUT_WR)
    server.application.wait_for(lambda: "/hold/gone" in server.application.dropped)
    assert "/hold/waiting" not in server.application.dropped
    server.answer("/hold/gone")
    server.answer("/hold/waiting", b'{"n": 1}')
    with waiting:
        (answer,) = answers_in(read_all(waiting))
    assert answer.said["n"] == 1


def test_a_caller_that_goes_while_its_body_is_decompressed_is_not_worked_for() -> None:
    with running() as server:
        body = gzip.compress(bytes(2**26))
        connection = server.connect()
        connection.sendall(request_of("/never", body, "Content-Encoding: gzip"))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        give_up = time.monotonic() + 20
        while not server.call(lambda: server.listener.held_bytes):
            assert time.monotonic() < give_up
        connection.close()
        while server.call(lambda: server.listener.held_bytes):
            assert time.monotonic() < give_up
        asyncio.run_coroutine_threadsafe(server.loop.shutdown_default_executor(), server.loop).result(20)
        server.call(lambda: None)
        assert "/never" not in server.application.seen
        assert server.call(lambda: server.listener.held_bytes) == 0


def test_what_is_answered_is_not_dropped(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request_of("/hold/answered"))
        server.answer("/hold/answered")
        assert read_answer(connection).status == 200
    server.call(lambda: None)
    assert "/hold/answered" not in server.application.dropped


def test_half_a_request_and_the_end_is_the_end(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request_of("/half", b"abc")[:-1])
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""
    assert "/half" not in server.application.seen


def test_more_connections_than_allowed_are_told_to_come_again() -> None:
    with running(Limits(max_connections=2)) as server:
        with server.connect() as one, server.connect() as two:
            for connection in (one, two):
                connection.sendall(request_of())
                assert read_answer(connection).status == 200
            with server.connect() as three:
                (answer,) = answers_in(read_all(three))
            assert (answer.status, answer.headers["Connection"]) == (503, "close")
            assert int(answer.headers["Retry-After"]) >= 1
            one.sendall(request_of("/still"))
            assert read_answer(one).said["path"] == "/still"
        give_up = time.monotonic() + 20
        while server.call(lambda: server.listener.connections):
            assert time.monotonic() < give_up
        with server.connect() as four:
            four.sendall(request_of())
            assert read_answer(four).status == 200


def test_all_bodies_together_are_bounded() -> None:
    limits = Limits(max_request_bytes=2**20)
    with running(limits) as server:
        connections = [server.connect() for _ in range(17)]
        for connection in connections[:16]:
            connection.sendall(request_of("/", bytes(2**20))[:-100])
        give_up = time.monotonic() + 20
        while server.call(lambda: server.listener.held_bytes) < 16 * (2**20 - 100):
            assert time.monotonic() < give_up
        connections[16].sendall(request_of("/", bytes(2**20)))
        assert answers_in(read_all(connections[16]))[0].status == 503
        connections[0].sendall(bytes(100))
        for connection in connections:
            connection.close()


def test_a_connection_leaves_nothing_behind_that_only_a_collector_finds(server: Running) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            with server.connect() as connection:
                connection.sendall(request_of("/one") + request_of("/big/100000") + b"POST /half")
                read_answer(connection)
        give_up = time.monotonic() + 20
        while server.call(lambda: server.listener.connections):
            assert time.monotonic() < give_up
        server.call(lambda: None)
        # By `type`: what other tests have left in the process may raise where it is asked for its class.
        assert server.call(lambda: sum(type(each) in (Connection, RequestReader) for each in gc.get_objects())) == 0
    finally:
        gc.enable()


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_is_flat_under_large_bodies_that_are_refused(server: Running) -> None:
    declared = request_of().replace(b"Length: 0", b"Length: 999999999")
    junk = bytes(2**20)
    before = resident_bytes()
    for _ in range(30):
        with server.connect() as connection:
            connection.sendall(declared)
            try:
                for _ in range(8):
                    connection.sendall(junk)
                (answer,) = answers_in(read_all(connection))
            except ConnectionError:
                continue
            assert answer.status == 413
    assert server.call(lambda: server.listener.held_bytes) == 0
    assert resident_bytes() - before < 20 * 2**20  # 240 MB were sent
