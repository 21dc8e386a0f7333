"""A server in a process of its own, and what wrk and /proc say of it."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

SCRIPT = Path(__file__).with_name("serve_wrk.lua")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Question:
    """What is asked again and again: bodies in turn."""

    path: str
    headers: Mapping[str, str]
    bodies: tuple[bytes, ...]

    def is_answered(self, port: int) -> bool:
        """Whether the first of them gets an answer."""
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", self.path, self.bodies[0], dict(self.headers))
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def write(self, folder: Path) -> None:
        """As the script for wrk reads it."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "headers").write_text("".join(f"{name}: {value}\n" for name, value in self.headers.items()))
        for number, body in enumerate(self.bodies):
            (folder / f"body-{number}").write_bytes(body)


@dataclass(frozen=True)
class Load:
    """What one run of wrk found, and what it cost the server."""

    requests_per_second: float
    failed: int
    p50: float
    p99: float
    """Seconds."""
    cpu_per_thousand: float
    """Processor seconds of all of the server's processes for a thousand requests."""


@dataclass
class Running:
    """A server that has been started."""

    process: subprocess.Popen[bytes]
    port: int
    cold: float = 0.0
    """Seconds from its start to its first answer."""

    def load(self, question: Question, folder: Path, *, connections: int, seconds: int, threads: int = 1) -> Load:
        """Ask it for so long over so many connections."""
        question.write(folder)
        before = self.cpu()
        command = [
            "wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT),
            f"http://127.0.0.1:{self.port}{question.path}", "--", str(folder),
        ]  # fmt: skip
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        spent = self.cpu() - before
        found = next(line for line in text.splitlines() if line.startswith("RESULT ")).split()[1:]
        requests, bad, microseconds = map(int, found[:3])
        return Load(requests / microseconds * 1e6, bad, float(found[3]), float(found[4]), spent / requests * 1000)

    def cpu(self) -> float:
        """Processor seconds of the process and all below it, those that have ended too."""
        return sum(_cpu(each) for each in _family(self.process.pid))

    def resident(self) -> int:
        """Bytes of memory that they hold, what they share counted once for each (PSS where the system tells it)."""
        return sum(_memory(each) for each in _family(self.process.pid))


@contextmanager
def served(command: Callable[[int], Sequence[str]], question: Question, *, patience: float = 120) -> Iterator[Running]:
    """A server that answers already; `command` is given its port."""
    port = _free_port()
    started = time.perf_counter()
    process = subprocess.Popen(
        command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    running = Running(process, port)
    try:
        while not question.is_answered(port):
            if process.poll() is not None or time.perf_counter() - started > patience:
                raise SystemExit(f"the server did not start: {' '.join(command(port))}")
            time.sleep(0.005)
        running.cold = time.perf_counter() - started
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


def _family(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(child) for child in task.read_text().split()]
    return found


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(each) for each in fields[11:15]) / TICKS


def _memory(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
