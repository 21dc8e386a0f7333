"""PyTorch's elastic agent: it starts processes, watches over them, and starts all again where one is killed."""

import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import LogsDest, LogsSpecs, SignalException
from torch.distributed.elastic.rendezvous import (
    RendezvousConnectionError,
    RendezvousError,
    RendezvousHandler,
    RendezvousParameters,
)
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from mlctl.errors import Interrupted, PeerLost
from mlctl.training.places import LAUNCHER, Launch, is_verdict, stopped_by

STARTS_AGAIN: Final = 3
"""How often the processes are started again."""
ARRIVAL_SECONDS: Final = 300
"""How long machines wait for each other."""
FAREWELL_SECONDS: Final = 30
"""How long a process that was told to stop may take."""


@dataclass
class Ended:
    """What became of this machine's processes in their last start."""

    codes: dict[int, int] = field(default_factory=dict)
    """Exit code by rank of every process that did not end well; minus its number for a signal that killed it."""
    said: dict[int, str] = field(default_factory=dict)
    """What processes other than the leader wrote to stderr, by rank."""
    starts: int = 1


def run_elastic(launch: Launch, arguments: tuple[str, ...], on_restart: Callable[[Ended], None]) -> Ended:
    """Run Python with `arguments` in every process at once, until all have ended; the leader has this one's streams.

    Where one is killed by a signal, or asks for it, all are stopped and started again, `STARTS_AGAIN` times at most,
    `on_restart` being told why; one that comes to a verdict other than 0 stops all for good.

    Raises Interrupted for a signal, after all have been given it, and PeerLost where the machines do not meet.
    """
    # What the agent says to itself, and of children that end, is no user's concern.
    for name in [each for each in logging.root.manager.loggerDict if each.startswith("torch.distributed")]:
        logging.getLogger(name).disabled = True
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGINT,SIGTERM"
    streams = _Streams()
    handler: RendezvousHandler | None = None
    try:
        handler = get_rendezvous_handler(_parameters(launch))
        spec = WorkerSpec(
            role=LAUNCHER,
            local_world_size=launch.processes,
            rdzv_handler=handler,
            entrypoint=sys.executable,
            args=arguments,
            max_restarts=STARTS_AGAIN,
            local_addr=_own_address(launch),
        )
        agent = _Agent(spec, streams, on_restart)
        agent.run()
    except SignalException as stop:
        raise Interrupted(stop.sigval) from None
    except RendezvousConnectionError as error:
        raise PeerLost("nobody answers", where=launch.endpoint, next=_NEXT) from error
    except RendezvousError as error:
        raise PeerLost("the machines have not all come, or one has left", where=launch.endpoint, next=_NEXT) from error
    finally:
        if handler is not None:
            handler.shutdown()
    agent.ended.said = streams.said()
    return agent.ended


_NEXT: Final = "start the same command on every machine, with the same `--rdzv-endpoint`, which all of them can reach"


class _Agent(LocalElasticAgent):
    """An agent that starts processes again only where that may help."""

    def __init__(self, spec: WorkerSpec, streams: "_Streams", on_restart: Callable[[Ended], None]) -> None:
        super().__init__(spec, streams, shutdown_timeout=FAREWELL_SECONDS)
        self.ended = Ended()
        self._on_restart = on_restart

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.state is WorkerState.FAILED:
            self.ended.codes = {rank: failure.exitcode for rank, failure in result.failures.items()}
            if not is_worth_another_start(self.ended.codes):
                self._remaining_restarts = 0
            elif self._remaining_restarts > 0:
                self._on_restart(self.ended)
                self.ended = Ended(starts=self.ended.starts + 1)
        return result


def is_worth_another_start(codes: dict[int, int]) -> bool:
    """Whether no process failed by itself, and at least one was killed, or has lost another."""
    found = codes.values()
    return not any(map(is_verdict, found)) and not all(map(stopped_by, found))


class _Streams(LogsSpecs):
    """The leader writes where this process does; what the others write to stderr is kept in memory, and no file."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[int, int] = {}

    @property
    def root_log_dir(self) -> str:
        return os.devnull

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        found = LogsDest()
        for local_rank, environment in envs.items():
            rank = int(environment["RANK"])
            is_leader = rank == 0
            environment["TORCHELASTIC_ERROR_FILE"] = ""
            found.stdouts[local_rank] = "" if is_leader else os.devnull
            found.stderrs[local_rank] = "" if is_leader else self._memory(rank)
            found.error_files[local_rank] = os.devnull
        return found

    def said(self) -> dict[int, str]:
        """What was kept of the last start, by rank."""
        sizes = {rank: os.fstat(file).st_size for rank, file in self._kept.items()}
        return {rank: os.pread(file, sizes[rank], 0).decode(errors="replace") for rank, file in self._kept.items()}

    def _memory(self, rank: int) -> str:
        if rank not in self._kept:
            self._kept[rank] = os.memfd_create(f"stderr of rank {rank}")
        return f"/proc/self/fd/{self._kept[rank]}"


def _parameters(launch: Launch) -> RendezvousParameters:
    options: dict[str, Any] = {"join_timeout": ARRIVAL_SECONDS, "read_timeout": ARRIVAL_SECONDS}
    if launch.endpoint is None:
        options["is_host"] = True
    return RendezvousParameters(
        backend="c10d",
        endpoint=launch.endpoint or "127.0.0.1:0",
        run_id=LAUNCHER,
        min_nodes=launch.machines,
        max_nodes=launch.machines,
        local_addr=_own_address(launch),
        **options,
    )


def _own_address(launch: Launch) -> str:
    """The address by which the other machines reach this one: a machine's name need not be known to them."""
    if launch.endpoint is None:
        return "127.0.0.1"
    host, _, port = launch.endpoint.rpartition(":")
    try:
        family, kind, *_, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # nothing is sent
            return str(probe.getsockname()[0])
    except OSError as error:
        raise PeerLost(f"it cannot be reached ({error.strerror})", where=launch.endpoint, next=_NEXT) from error
