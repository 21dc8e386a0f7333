"""A server of gRPC in a process of its own, over real models, and models whose answers wait until a test wants them."""

import argparse
import asyncio
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop
from v2_harness import Computed, Versions, echo_graph, linear_graph, small_catalogue

from mlctl.runtime.running import Port
from mlctl.serving.grpc.listening import listen_grpc
from mlctl.serving.guards.audit import Audit, Use, audit_of
from mlctl.serving.guards.caller import ANONYMOUS, Caller, Guard
from mlctl.serving.guards.guard import guard_of
from mlctl.serving.http.routing import Scope
from mlctl.serving.inference import Inference
from mlctl.serving.refusals import Broken, Busy, Late
from mlctl.serving.settings import Encryption, Limits, Listening
from mlctl.serving.signature import Meaning, Signature
from mlctl.serving.telemetry.access_log import Access
from mlctl.serving.telemetry.statistics import ModelStatistics

HERE: Final = Path(__file__).parent
MAX_REQUEST_BYTES: Final = 1 << 20
MAX_BATCH_SIZE: Final = 16
SECONDS: Final = 30
"""After which a test gives up."""


class Held(Computed):
    """Keeps requests until somebody loads the model, and answers the last one first.

    Its statistics show in place of failures how many requests were dropped, and its pending how many are kept.
    """

    def __init__(self) -> None:
        super().__init__("held", 1, linear_graph(1))
        self.timeout_seconds = 3600.0
        self.kept: list[Inference] = []

    def hold(self) -> Callable[[], None]:
        return lambda: None

    def submit(self, inference: Inference) -> None:
        self.kept.append(inference)

    def release(self) -> None:
        kept, self.kept = self.kept, []
        for each in reversed(kept):
            super().submit(each)

    @property
    def statistics(self) -> ModelStatistics:
        now = asyncio.get_running_loop().time()
        return ModelStatistics(
            pending=len(self.kept),
            failed={"dropped": sum(each.is_dropped for each in self.kept)},
            rows=len(self.kept),
            batches=round(max((each.deadline - now for each in self.kept), default=0.0)),
        )

    @statistics.setter
    def statistics(self, _: ModelStatistics) -> None:
        """Computed."""


class Refusing(Computed):
    """Refuses what is asked for, by the first number of the input."""

    def hold(self) -> Callable[[], None]:
        return lambda: None

    def submit(self, inference: Inference) -> None:
        wish = int(inference.inputs[0][0, 0])
        if wish == 1:
            raise Busy("the queue is full", retry_after=1.5)
        if wish == 2:
            inference.answered(Late("the answer is not there in time"))
        if wish == 3:
            inference.answered(Broken("the graph failed"))
        if wish == 4:
            raise ZeroDivisionError("a secret of the server")


class Halves(Computed):
    """bfloat16 in and out, as bits; no runtime here computes with it."""

    def __init__(self) -> None:
        super().__init__("halves", 1, echo_graph(["uint16"]))
        ports = [Port(name, "bfloat16", (None, None)) for name in ("in", "out")]
        self.signature = Signature("halves", 1, "onnxruntime", (ports[0],), (ports[1],), Meaning())


class Everybody:
    """A guard that lets everybody do everything."""

    def admit(self, authorization: str | None, scope: Scope, model: str | None) -> Caller:
        return ANONYMOUS


class Releasing(Versions):
    """A catalogue in which loading `held` lets its answers go."""

    async def load(self, name: str, version: str | None = None) -> None:
        await super().load(name, version)
        if name == "held":
            waiting = self.there["held", 1]
            assert isinstance(waiting, Held)
            waiting.release()


class Books:
    """An account whose access log is lines on stderr."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def require_writable(self) -> None:
        self._audit.require_writable()

    def record(self, use: Use) -> None:
        self._audit.record(use)

    def answered(self, access: Access, route: str) -> None:
        line = f"ACCESS {access.method} {route} {access.status} {access.caller} {access.client} {access.model}"
        print(line, access.version, access.request_id, file=sys.stderr, flush=True)  # noqa: T201


async def serve(arguments: argparse.Namespace) -> None:
    loop, told_to_end = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told_to_end.set)
    loop.set_exception_handler(lambda _, told: print("BUG", told, file=sys.stderr, flush=True))  # noqa: T201
    held = Held()
    catalogue = Releasing(small_catalogue().there).put(held, Refusing("refusing", 1, linear_graph(1)), Halves())
    guard: Guard = guard_of(arguments.tokens) if arguments.tokens else Everybody()
    encryption = Encryption(arguments.certificate, arguments.key) if arguments.key else None
    listener = await listen_grpc(
        catalogue,
        guard,
        Listening(grpc_port=arguments.port, encryption=encryption),
        Limits(MAX_REQUEST_BYTES, arguments.max_connections, slow_seconds=arguments.slow_seconds),
        account=Books(audit_of(arguments.audit)),
        max_batch_size=MAX_BATCH_SIZE,
    )
    print(listener.port, flush=True)  # noqa: T201
    await told_to_end.wait()
    loop.call_later(arguments.release_seconds, held.release)
    cut = await listener.drain(arguments.grace_seconds)
    print(cut, flush=True)  # noqa: T201


@dataclass
class Server:
    """A running server."""

    port: int
    process: "subprocess.Popen[str]"
    stderr: Path
    expected_bugs: list[str] = field(default_factory=list)
    """Texts of the bugs that a test provokes."""

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def ended(self) -> int:
        """Once it has ended rightly, the number of calls that it cut off."""
        assert self.process.stdout is not None
        cut = int(self.process.stdout.readline())
        assert self.process.wait(SECONDS) == 0
        return cut

    @property
    def lines(self) -> list[str]:
        """What it wrote to stderr."""
        return self.stderr.read_text().splitlines()


@contextmanager
def serving(folder: Path, *options: str | Path) -> Iterator[Server]:
    """A server until the end of the block; then it must end by SIGTERM with 0, and have met no bug."""
    errors = folder / "stderr"
    command = [sys.executable, str(Path(__file__)), *map(str, options)]
    with (
        errors.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=HERE) as process,
    ):
        assert process.stdout is not None
        try:
            ready, _, _ = select.select([process.stdout], [], [], SECONDS)
            line = process.stdout.readline() if ready else ""
            assert line, f"the server did not start: {errors.read_text()}"
            server = Server(int(line), process, errors)
            yield server
            process.terminate()
            assert process.wait(SECONDS) == 0, errors.read_text()
        finally:
            process.kill()
    bugs = [each for each in server.lines if not each.startswith("ACCESS ")]
    surprising = [each for each in bugs if not any(text in each for text in server.expected_bugs)]
    assert surprising == []


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    for name in ("tokens", "certificate", "key", "audit"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--max-connections", type=int, default=1000)
    parser.add_argument("--slow-seconds", type=float, default=SECONDS)
    parser.add_argument("--grace-seconds", type=float, default=SECONDS)
    parser.add_argument("--release-seconds", type=float, default=0.1, help="from the signal to the answers of `held`")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
