"""A long load on one server: swaps of versions, malformed and slow callers, and every answer compared.

    python bench/soak.py [--minutes N] [--swap SECONDS] [--share X]

Two versions of a small network are published; then callers ask at a share of what the server can do, each over a
connection that it keeps, and hold every answer against those that the two versions must give. Meanwhile
`mlctl promote` lets the label go from one to the other, some send nonsense, and some take their time. What counts:
good requests that failed, wrong answers, and how the server's memory moves after the first minute.
"""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import uvloop
from serve_load import Question, Running, served

from mlctl.runtime.session import OnnxSession

HERE = Path(__file__).parent
MLCTL = str(Path(sys.executable).with_name("mlctl"))
MODEL = "soak"
CALLERS = 32
ROWS = 64
TOLERANCE = 1e-4
"""Of probabilities: a batch may sum in another order than a row alone."""
SETTLED_SECONDS = 60
MALFORMED = (
    b"POST /v2/models/soak/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nnonsens",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/9.9\r\n\r\n",
    b'POST /v1/models/soak:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n{"instances": 1}',
    b"POST /v2/models/soak/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
)


@dataclass
class Seen:
    """What callers were told."""

    answers: Counter[str] = field(default_factory=Counter)
    """By version, or by what was wrong."""
    seconds: list[float] = field(default_factory=list)
    malformed: int = 0
    slow: int = 0


@dataclass(frozen=True)
class Row:
    """A request, and what each version must answer, [versions, classes]."""

    request: bytes
    expected: npt.NDArray[np.float32]


def publish(repository: Path, store: Path) -> list[Path]:
    """Two versions of one small network; their graphs."""
    for seed in (1, 2):
        words = ["publish", str(HERE / "digits.yaml"), f"seed={seed}", "--to", str(repository)]
        subprocess.run([MLCTL, *words, "--store", str(store), "--name", MODEL, "--quiet"], check=True)
    promote(repository, 1)
    return [repository / MODEL / str(number) / "model.onnx" for number in (1, 2)]


def promote(repository: Path, version: int) -> None:
    """Let the label point to a version."""
    words = ["promote", f"{MODEL}@{version}", "--repository", str(repository)]
    subprocess.run([MLCTL, *words], check=True, stdout=subprocess.DEVNULL)


def rows_for(graphs: Sequence[Path]) -> list[Row]:
    """Random images with the answers of both versions."""
    sessions = [OnnxSession(each, threads=1) for each in graphs]
    port = sessions[0].inputs[0]
    shape = [1, *(size or 1 for size in port.shape[1:])]
    values = np.random.default_rng(7).integers(0, 17, (ROWS, *shape)).astype(port.dtype)
    datatype = {"uint8": "UINT8", "float32": "FP32"}[port.dtype]
    found = []
    for each in values:
        tensor = {"name": port.name, "datatype": datatype, "shape": shape}
        head = {
            "inputs": [{**tensor, "parameters": {"binary_data_size": each.nbytes}}],
            "outputs": [{"name": sessions[0].outputs[0].name, "parameters": {"binary_data": True}}],
        }
        header = json.dumps(head, separators=(",", ":")).encode()
        body = header + each.tobytes()
        start = (
            f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {len(header)}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        expected = np.stack([session((each,))[0] for session in sessions])
        found.append(Row(start.encode() + body, expected))
    return found


async def call(port: int, rows: Sequence[Row], seen: Seen, until: float, pause: float) -> None:
    """Ask again and again over one connection, every `pause` seconds or as fast as answers come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = time.monotonic() + random.random() * pause
    for row in itertools.cycle(rows):
        if pause:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += pause
        started = time.monotonic()
        if started >= until:
            break
        writer.write(row.request)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        seen.seconds.append(time.monotonic() - started)
        seen.answers[verdict(lines[0], headers, body, row)] += 1
    writer.close()


def verdict(status: str, headers: dict[str, str], body: bytes, row: Row) -> str:
    """The version that answered rightly, or what is wrong."""
    if " 200 " not in status:
        return f"FAILED {status}"
    end = int(headers["inference-header-content-length"])
    version = int(json.loads(body[:end])["model_version"])
    wanted, given = row.expected[version - 1], np.frombuffer(body[end:], np.float32)
    if given.shape != wanted.shape or not np.allclose(given, wanted, rtol=0, atol=TOLERANCE):
        return f"WRONG of version {version}"
    return f"version {version}"


async def nonsense(port: int, seen: Seen, until: float) -> None:
    """Send what is no good request, ten times a second."""
    for each in itertools.cycle(MALFORMED):
        if time.monotonic() >= until:
            return
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(each)
            with suppress(OSError, asyncio.IncompleteReadError):
                await asyncio.wait_for(reader.read(64), 1)
            writer.close()
            seen.malformed += 1
        await asyncio.sleep(0.1)


async def drip(port: int, row: Row, seen: Seen, until: float) -> None:
    """Send a request byte by byte, until the server has enough of it."""
    while time.monotonic() < until:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            for byte in row.request:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.5)
                if writer.is_closing() or time.monotonic() >= until:
                    break
            writer.close()
            seen.slow += 1


async def swap(repository: Path, seconds: float, until: float) -> int:
    """Let the label go from one version to the other; gives how often."""
    for count in itertools.count():
        await asyncio.sleep(seconds)
        if time.monotonic() >= until - 2:
            return count
        await asyncio.to_thread(promote, repository, 2 - count % 2)
    raise AssertionError


async def watch(running: Running, memory: list[int], until: float) -> None:
    """Note the server's memory every second."""
    while time.monotonic() < until:
        memory.append(running.resident())
        await asyncio.sleep(1)


async def capacity(running: Running, rows: Sequence[Row]) -> float:
    """Requests a second that callers without a pause get answered."""
    seen, seconds = Seen(), 5.0
    until = time.monotonic() + seconds
    await asyncio.gather(*(call(running.port, rows, seen, until, 0.0) for _ in range(CALLERS)))
    return sum(seen.answers.values()) / seconds


async def soak(running: Running, rows: Sequence[Row], repository: Path, asked: argparse.Namespace) -> None:
    """Load it, and say what came of it."""
    most = await capacity(running, rows)
    rate = asked.share * most
    seen, memory = Seen(), list[int]()
    until = time.monotonic() + 60 * asked.minutes
    print(f"capacity {most:,.0f} requests/s, load {rate:,.0f} for {asked.minutes:g} min", flush=True)
    swapped, *_ = await asyncio.gather(
        swap(repository, asked.swap, until),
        watch(running, memory, until),
        nonsense(running.port, seen, until),
        *(drip(running.port, rows[0], seen, until) for _ in range(4)),
        *(call(running.port, rows, seen, until, CALLERS / rate) for _ in range(CALLERS)),
    )
    good = sum(count for what, count in seen.answers.items() if what.startswith("version"))
    failed = sum(count for what, count in seen.answers.items() if what.startswith("FAILED"))
    wrong = sum(count for what, count in seen.answers.items() if what.startswith("WRONG"))
    settled = memory[min(SETTLED_SECONDS, len(memory) // 3) :]
    print(f"{good:,} right answers ({dict(seen.answers)}), {failed} failed, {wrong} wrong")
    print(f"{swapped} swaps, {seen.malformed:,} malformed requests, {seen.slow} slow callers")
    cuts = statistics.quantiles(seen.seconds, n=100)
    print(f"p50 {cuts[49] * 1e3:.2f} ms, p99 {cuts[98] * 1e3:.2f} ms")
    first, last = (statistics.median(part) for part in (settled[: len(settled) // 4], settled[-len(settled) // 4 :]))
    change, largest = last / first - 1, max(settled)
    print(f"memory {first / 1e6:.1f} MB, at the end {last / 1e6:.1f} MB ({change:+.1%}), most {largest / 1e6:.1f}")


def main() -> None:
    """Set it up, run it, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--swap", type=float, default=20)
    parser.add_argument("--share", type=float, default=0.8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        rows = rows_for(publish(repository, Path(folder) / "store"))
        head, _, body = rows[0].request.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[2:])
        ready = Question(f"/v2/models/{MODEL}/infer", headers, (body,))
        words = [MLCTL, "serve", "--repository", str(repository), "--quiet"]
        with served(lambda port: [*words, "--port", str(port)], ready) as running:
            uvloop.run(soak(running, rows, repository, asked))


if __name__ == "__main__":
    main()
