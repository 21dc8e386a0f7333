"""A server's life: it begins once its models answer rightly, and ends once it has finished what it accepted."""

import asyncio
import gc
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import orjson
import uvloop

from mlctl.errors import Interrupted, StepFailed
from mlctl.events import Note
from mlctl.serving.application import Application
from mlctl.serving.grpc.listening import listen_grpc
from mlctl.serving.guards.audit import Audit, audit_of
from mlctl.serving.guards.guard import guard_of
from mlctl.serving.http.listening import listen
from mlctl.serving.loading import load_version
from mlctl.serving.models import Models
from mlctl.serving.ports import Ports, bind_ports
from mlctl.serving.routes import all_routes
from mlctl.serving.settings import Listening, ServerSettings
from mlctl.serving.shelf import Shelf
from mlctl.serving.telemetry.bugs import tell_bugs
from mlctl.serving.telemetry.logs import Logs, open_logs
from mlctl.serving.telemetry.server_statistics import ServerStatistics
from mlctl.units import plural

_SWITCH_SECONDS: Final = 1e-4
"""How long a model's thread, which has computed, waits at most for the event loop to let it run Python. With the usual
5 ms, 64 callers of a small int8 CNN get a quarter fewer answers."""


@dataclass(frozen=True)
class Server:
    """Serves the models of a shelf."""

    shelf: Shelf
    settings: ServerSettings
    is_quiet: bool = False
    as_json: bool = False
    """Whether stdout gets one JSON document once requests are taken."""

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises MlctlError for what keeps it from starting, Interrupted where it was told to end before it had started,
        StepFailed where what it had accepted was not finished within the grace period.
        """
        sys.setswitchinterval(_SWITCH_SECONDS)
        logs = open_logs(is_quiet=self.is_quiet)
        audit = audit_of(self.settings.audit, logs.events.tell)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve(logs, audit))
        finally:
            audit.close()
            logs.close()

    async def _serve(self, logs: Logs, audit: Audit) -> None:
        tell_bugs(asyncio.get_running_loop(), logs.events.tell)
        told = _Told()
        ports = await bind_ports(self.settings.listening)
        try:
            await self._serve_on(ports, told, logs, audit)
        finally:
            ports.close()

    async def _serve_on(self, ports: Ports, told: "_Told", logs: Logs, audit: Audit) -> None:
        guard = guard_of(self.settings.tokens, logs.events.tell)
        models = Models(self.shelf, partial(load_version, settings=self.settings), logs.events.tell)
        await told.unless(models.start())
        statistics = ServerStatistics(dropped_lines=lambda: logs.writer.dropped)
        most = self.settings.batching.max_size
        application = Application(all_routes(models, statistics, most), guard, audit, logs.access)
        listening, limits = self.settings.listening, self.settings.limits
        listener = await listen(application, listening, limits, bound=ports.http, refuse=application.refuse)
        statistics.connections, statistics.held_bytes = lambda: listener.connections, lambda: listener.held_bytes
        statistics.responses, statistics.refusals = application.responses, listener.refusals
        calls = None
        if ports.grpc is not None:
            # gRPC binds a socket of its own, beside the one that has kept the port for it.
            ports.grpc.share()
            kept = replace(listening, grpc_port=ports.grpc.port)
            calls = await listen_grpc(models, guard, kept, limits, account=application, max_batch_size=most)
            ports.grpc.close()
        watching = asyncio.get_running_loop().create_task(models.watch())
        self._announce(models, listener.port, calls.port if calls else None, logs)
        # All that is there now stays. Looking through it for garbage again and again would hold up requests.
        gc.freeze()
        gc.enable()
        await told.wait()
        logs.events.tell(Note(f"told to end: what was accepted has {listening.grace_seconds:g} s"))
        models.end()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        drains = [listener.drain(listening.grace_seconds), *([calls.drain(listening.grace_seconds)] if calls else [])]
        cut = sum(await asyncio.gather(*drains))
        if cut:
            raise StepFailed(
                f"{plural(cut, 'caller')} had to be cut off when {listening.grace_seconds:g} s were over",
                next="give it more time with `serve.grace_seconds`, or look for what a model takes so long for",
            )
        await models.drain()

    def _announce(self, models: Models, port: int, grpc_port: int | None, logs: Logs) -> None:
        listening = self.settings.listening
        http = f"{'https' if listening.encryption else 'http'}://{_address(listening, port)}"
        grpc = None if grpc_port is None else _address(listening, grpc_port)
        live = [(each.signature.name, each.signature.version) for each in models.live()]
        names = ", ".join(f"{name}@{version}" for name, version in live) or "no model yet"
        also = f", gRPC on {grpc}" if grpc else ""
        logs.events.tell(Note(f"serving {names} on {http}{also}; {http}/docs says how to ask"))
        if self.as_json:
            served = [{"name": name, "version": version} for name, version in live]
            sys.stdout.write(orjson.dumps({"http": http, "grpc": grpc, "models": served}).decode() + "\n")
            sys.stdout.flush()


def _address(listening: Listening, port: int) -> str:
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    return f"{host}:{port}"


class _Told:
    """Whether a signal has told the server to end. Takes the signals over from whoever had them."""

    def __init__(self) -> None:
        self._number = 0
        self._event = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, self._hear, each)

    def _hear(self, number: int) -> None:
        self._number = self._number or number
        self._event.set()

    async def wait(self) -> None:
        """Until it was told."""
        await self._event.wait()

    async def unless(self, work: Coroutine[None, None, None]) -> None:
        """Do the work. Raises Interrupted where a signal comes first, and whatever the work raises."""
        task = asyncio.ensure_future(work)
        waiting = asyncio.ensure_future(self.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not task.done():
            task.cancel()
            raise Interrupted(self._number)
        task.result()
