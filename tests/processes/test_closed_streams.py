"""stdin, stdout or stderr that are closed, as some supervisors start their programs."""

import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection

import onnx
import pytest
from conftest import COMMAND, SECONDS_BEFORE_GIVING_UP, Lab
from graphs_from_elsewhere import linear

WAYS = ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")


def started(lab: Lab, line: str, closed: str) -> subprocess.Popen[str]:
    """The command with those streams closed, without a shell in between."""
    return subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", COMMAND, *line.split()],
        cwd=lab.folder,
        env=dict(lab.environment()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except ConnectionError:
        return False
    finally:
        connection.close()


@pytest.mark.parametrize("closed", WAYS)
def test_a_server_without_a_stream_answers_and_ends_as_ever(lab: Lab, closed: str) -> None:
    onnx.save(linear(), lab.folder / "net.onnx")
    port = free_port()
    with started(lab, f"serve net.onnx --port {port}", closed) as process:
        until = time.monotonic() + SECONDS_BEFORE_GIVING_UP
        while not is_ready(port):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=SECONDS_BEFORE_GIVING_UP)
    assert process.returncode == 0, err


@pytest.mark.parametrize("closed", WAYS)
@pytest.mark.parametrize(
    ("line", "code"), [("--version", 0), ("models models", 0), ("models nowhere", 3), ("plan tiny.yaml", 0)]
)
def test_a_command_without_a_stream_has_its_own_exit_code(lab: Lab, line: str, code: int, closed: str) -> None:
    (lab.folder / "models").mkdir()
    with started(lab, line, closed) as process:
        out, err = process.communicate(timeout=SECONDS_BEFORE_GIVING_UP)
    assert (process.returncode, "bug" in out + err) == (code, False), err
