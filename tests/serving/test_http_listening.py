"""Where a server is reached, how it proves itself, and how it ends."""

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from http_servers import (
    SECONDS_BEFORE_GIVING_UP,
    Running,
    answers_in,
    attempt,
    read_all,
    read_answer,
    request_of,
    running,
)

from mlctl.errors import UsageError
from mlctl.serving.settings import Listening


def test_a_port_that_is_taken_is_named_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match="taken") as refused:
            attempt(Listening(port=port))
    assert refused.value.where == f"127.0.0.1:{port}"
    assert "--port" in refused.value.next


@pytest.mark.parametrize(
    ("host", "what"),
    [("192.0.2.1", "no address of this machine"), ("no such host.invalid", "no address"), ("a" * 80, "no address")],
)
def test_an_address_that_is_not_here_is_named(host: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as refused:
        attempt(Listening(host=host, port=0))
    assert "127.0.0.1" in refused.value.next


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError):
        attempt(Listening(port=70_000))


def test_all_addresses_of_a_name_have_one_port() -> None:
    with running(listening=Listening(host="localhost", port=0)) as server:
        with server.connect() as connection:
            connection.sendall(request_of())
            assert read_answer(connection).status == 200
        assert server.listener.address in ("127.0.0.1", "::1")


def test_a_port_can_be_used_again_at_once() -> None:
    with running() as server:
        port = server.port
        with server.connect() as connection:
            connection.sendall(request_of("/", b"", "Connection: close"))
            read_all(connection)
    with running(listening=Listening(port=port)) as server:
        assert server.port == port


def test_a_server_that_ends_finishes_what_it_accepted_and_takes_nothing_more() -> None:
    with running() as server:
        idle, used, partial = server.connect(), server.connect(), server.connect()
        with idle, used, partial:
            partial.sendall(request_of("/partial", b"abc")[:-1])
            used.sendall(request_of("/hold/x") + request_of("/hold/y"))
            server.application.wait_for(lambda: {"/hold/x", "/hold/y"} <= server.application.held.keys())
            draining = server.start_drain(SECONDS_BEFORE_GIVING_UP)
            assert read_all(idle) == b""
            with pytest.raises(ConnectionRefusedError):
                server.connect()
            assert not draining.done()
            partial.sendall(b"c")
            server.answer("/hold/x", b'{"n": 1}')
            server.answer("/hold/y", b'{"n": 2}')
            one, two = answers_in(read_all(used))
            (late,) = answers_in(read_all(partial))
        assert draining.result(SECONDS_BEFORE_GIVING_UP) == 0
    assert (one.said["n"], two.said["n"], late.said["path"]) == (1, 2, "/partial")
    assert [each.headers["Connection"] for each in (one, two, late)] == [None, "close", "close"]


def test_who_was_connected_by_the_system_alone_is_answered_before_the_end() -> None:
    with running() as server:
        is_blocked, is_connected = threading.Event(), threading.Event()

        async def drain_late() -> int:
            is_blocked.set()
            assert is_connected.wait(SECONDS_BEFORE_GIVING_UP)
            return await server.listener.drain(SECONDS_BEFORE_GIVING_UP)

        draining = asyncio.run_coroutine_threadsafe(drain_late(), server.loop)
        assert is_blocked.wait(SECONDS_BEFORE_GIVING_UP)
        with server.connect() as connection:
            connection.sendall(request_of("/late"))
            is_connected.set()
            (answer,) = answers_in(read_all(connection))
        assert (answer.said["path"], answer.headers["Connection"]) == ("/late", "close")
        assert draining.result(SECONDS_BEFORE_GIVING_UP) == 0


def test_after_the_grace_period_the_rest_is_cut_off() -> None:
    with running() as server:
        with server.connect() as connection:
            connection.sendall(request_of("/hold/x"))
            server.application.wait_for(lambda: "/hold/x" in server.application.held)
            assert server.start_drain(0.1).result(SECONDS_BEFORE_GIVING_UP) == 1
            assert read_all(connection) == b""
        assert server.application.dropped == ["/hold/x"]


def keep_asking(server: Running, answered: list[int], lost: list[BaseException], stop: Callable[[], bool]) -> None:
    """One request after another on one connection until an answer says that it closes."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS_BEFORE_GIVING_UP)
    try:
        while not stop():
            client.request("POST", "/", b"x" * 3000)
            response = client.getresponse()
            response.read()
            answered.append(response.status)
            if response.headers["Connection"] == "close":
                return
    except (OSError, http.client.HTTPException) as error:
        lost.append(error)
    finally:
        client.close()


@pytest.mark.parametrize("round_number", range(5))
def test_no_request_is_lost_where_a_server_ends_under_load(round_number: int) -> None:
    answered: list[int] = []
    lost: list[BaseException] = []
    with running() as server:
        begin = time.monotonic()
        callers = [
            threading.Thread(
                target=keep_asking,
                args=(server, answered, lost, lambda: time.monotonic() - begin > SECONDS_BEFORE_GIVING_UP),
            )
            for _ in range(8)
        ]
        for caller in callers:
            caller.start()
        server.application.wait_for(lambda: len(server.application.seen) > 100 * (round_number + 1))
        assert server.start_drain(SECONDS_BEFORE_GIVING_UP).result(SECONDS_BEFORE_GIVING_UP) == 0
        for caller in callers:
            caller.join()
        asked = len(server.application.seen)
    assert lost == []
    assert len(answered) == asked
    assert set(answered) == {200}


FEW_FILES = """
import asyncio, resource, socket, sys
import uvloop
from mlctl.serving.http.listening import listen
from mlctl.serving.http.messages import Response
from mlctl.serving.settings import Limits, Listening

resource.setrlimit(resource.RLIMIT_NOFILE, (224, 224))

async def main():
    await listen(lambda request, respond: respond(Response(200)), Listening(port=int(sys.argv[1])), Limits())
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

uvloop.run(main())
"""


def ask_once(port: int) -> int:
    """The status of an answer, 503 where the server has no room even to say so."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_BEFORE_GIVING_UP)
    try:
        client.request("GET", "/")
        return client.getresponse().status
    except ConnectionError:
        return 503
    finally:
        client.close()


def test_a_process_that_may_open_few_files_never_stops_listening() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    command = [sys.executable, "-c", FEW_FILES, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        crowd = [socket.create_connection(("127.0.0.1", port), SECONDS_BEFORE_GIVING_UP) for _ in range(300)]
        for connection in crowd:
            connection.close()
        give_up = time.monotonic() + SECONDS_BEFORE_GIVING_UP
        while ask_once(port) != 200:
            assert time.monotonic() < give_up
        process.stdin.close()
        assert process.wait(SECONDS_BEFORE_GIVING_UP) == 0
        assert process.stderr.read() == b""


HEAVY = ("email", "http.client", "pydantic", "torch", "onnx", "onnxruntime", "tokenizers", "grpc", "PIL")


def test_a_server_of_http_loads_nothing_that_it_does_not_need() -> None:
    code = f"import sys, mlctl.serving.http.listening; print([each for each in {HEAVY} if each in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert found.stdout == "[]\n"
