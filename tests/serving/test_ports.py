"""The ports of a server: its own before models are loaded, and open once they are."""

import gc
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop
from conftest import COMMAND, Lab, finished, kill
from http_servers import Echo, attempt
from published_models import graph_bytes
from served_processes import ServedProcess

from mlctl.errors import DataError, UsageError
from mlctl.serving.http.binding import bind
from mlctl.serving.http.listening import listen
from mlctl.serving.ports import bind_ports
from mlctl.serving.settings import Encryption, Limits, Listening

HOST = "127.0.0.1"
SLOW_LOADING = (
    """
import time
from pathlib import Path
import mlctl.serving.loading
import mlctl.serving.server
load = mlctl.serving.loading.load_version

def load_slowly(*given, **named):
    Path("loading").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    return load(*given, **named)

mlctl.serving.loading.load_version = mlctl.serving.server.load_version = load_slowly
"""
    + COMMAND
)


@contextmanager
def taken_port() -> Iterator[int]:
    """A port on which another server listens."""
    with socket.create_server((HOST, 0)) as other:
        yield int(other.getsockname()[1])


def free_port() -> int:
    with socket.create_server((HOST, 0)) as other:
        return int(other.getsockname()[1])


def is_refused(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 20).close()
    except ConnectionRefusedError:
        return True
    return False


def wait_for(path: Path) -> None:
    give_up = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.fixture
def folder(lab: Lab) -> Path:
    """With a model, and half of one that cannot be loaded."""
    (lab.folder / "softmax.onnx").write_bytes(graph_bytes())
    (lab.folder / "broken.onnx").write_bytes(graph_bytes()[:100])
    return lab.folder


@pytest.mark.parametrize(("options", "option"), [("--port {}", "--port"), ("--port 0 --grpc-port {}", "--grpc-port")])
def test_a_port_that_is_taken_ends_the_command_before_a_model_is_loaded(
    lab: Lab, folder: Path, options: str, option: str
) -> None:
    with taken_port() as port:
        result = lab(f"serve broken.onnx {options.format(port)}")
    assert result.code == 2
    assert f"{HOST}:{port}: the port is taken by another process" in result.err
    assert f"`{option}`" in result.err


def test_so_do_an_address_of_elsewhere_one_port_for_two_and_files_that_are_no_certificate(
    lab: Lab, folder: Path
) -> None:
    assert lab("serve broken.onnx --port 0 --host 203.0.113.1").code == 2
    twice = lab("serve broken.onnx --port 4242 --grpc-port 4242")
    assert (twice.code, "cannot both have the port 4242" in twice.err) == (2, True)
    (folder / "nonsense.pem").write_text("nonsense")
    encrypted = lab("serve broken.onnx --port 0 --certificate nonsense.pem --key nonsense.pem")
    assert encrypted.code == 3
    assert "nonsense.pem" in encrypted.err
    assert "broken.onnx" not in encrypted.err


def test_while_models_are_loaded_the_ports_are_the_servers_and_callers_are_refused(lab: Lab, folder: Path) -> None:
    port, grpc_port = free_port(), free_port()
    line = f"serve softmax.onnx --port {port} --grpc-port {grpc_port} --json --quiet"
    with lab.start(line, code=SLOW_LOADING) as process:
        try:
            wait_for(folder / "loading")
            assert is_refused(port)
            assert is_refused(grpc_port)
            for other in (f"--port {port}", f"--port 0 --grpc-port {grpc_port}"):
                late = lab(f"serve broken.onnx {other}")
                assert (late.code, "taken" in late.err) == (2, True)
            (folder / "go").touch()
            assert process.stdout is not None
            server = ServedProcess(process, json.loads(process.stdout.readline()))
            assert server.announced["grpc"] == f"{HOST}:{grpc_port}"
            assert server.port == port
            assert server.infer("softmax", [0.0, 1.0, 2.0, 3.0]).status == 200
            assert not is_refused(grpc_port)
            result = server.end()
        finally:
            kill(process)
    assert (result.code, result.err) == (0, "")


def test_where_loading_fails_no_socket_is_left_open(lab: Lab, folder: Path) -> None:
    with lab.start("serve broken.onnx --port 0 --grpc-port 0", PYTHONWARNINGS="always::ResourceWarning") as process:
        result = finished(process)
    assert result.code == 3
    assert "ResourceWarning" not in result.err


def test_a_port_that_is_bound_refuses_callers_and_other_servers_until_it_is_given_back() -> None:
    async def tried() -> int:
        bound = await bind(HOST, 0)
        assert is_refused(bound.port)
        with pytest.raises(UsageError, match="taken by another process"):
            await bind(HOST, bound.port)
        bound.close()
        again = await bind(HOST, bound.port)
        listener = await listen(Echo(), Listening(), Limits(), bound=again)
        assert (listener.port, is_refused(bound.port)) == (bound.port, False)
        # It is the listener's now.
        again.close()
        assert not is_refused(bound.port)
        await listener.drain(1)
        return int(bound.port)

    port = uvloop.run(tried())
    # What is left of the connections keeps nobody from starting the server again.
    attempt(Listening(port=port))


def test_all_sockets_are_given_back_where_one_port_cannot_be_had() -> None:
    port = free_port()

    async def tried(listening: Listening) -> None:
        with pytest.raises((UsageError, DataError)):
            await bind_ports(listening)
        (await bind(HOST, port)).close()

    with taken_port() as taken:
        uvloop.run(tried(Listening(port=port, grpc_port=taken)))
        uvloop.run(tried(Listening(port=taken, grpc_port=port)))
    nowhere = Encryption(Path("/nowhere/certificate.pem"), Path("/nowhere/key.pem"))
    uvloop.run(tried(Listening(port=port, encryption=nowhere)))
    gc.collect()


def test_a_server_that_comes_in_between_is_told_apart() -> None:
    async def tried() -> None:
        bound = await bind(HOST, 0)
        bound.share()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((HOST, bound.port))
            other.listen()
            with pytest.raises(UsageError, match="taken by another process"):
                await listen(Echo(), Listening(), Limits(), bound=bound)

    uvloop.run(tried())
    gc.collect()


def test_every_address_of_a_host_has_the_port() -> None:
    async def tried() -> None:
        bound = await bind("localhost", 0)
        with pytest.raises(UsageError, match="taken"):
            await bind(HOST, bound.port)
        bound.close()

    uvloop.run(tried())
