"""Where a server of HTTP is reached, from its first connection to its last."""

import asyncio
import resource
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from mlctl.serving.http.binding import Bound, bind
from mlctl.serving.http.connection import Connection
from mlctl.serving.http.messages import Application, Refuse
from mlctl.serving.http.refusing import refuse_plainly
from mlctl.serving.http.serving import MOST_LEAVING, Serving
from mlctl.serving.settings import Limits, Listening

if TYPE_CHECKING:
    import ssl

_BACKLOG: Final = 2048
"""Connections that the system keeps for the server until it takes them."""
_OTHER_FILES: Final = 128
"""Files that a server holds open beside its connections, at most: models, logs, the loop's own."""
_SWEEPS_PER_LIMIT: Final = 4
_SLOWEST_SWEEP_SECONDS: Final = 1.0
_DRAINING_SWEEP_SECONDS: Final = 0.05


class Listener:
    """A server that is reached."""

    def __init__(self, serving: Serving, servers: tuple[asyncio.AbstractServer, ...], address: str, port: int) -> None:
        self.address = address
        """The host's address, in digits."""
        self.port = port
        self._serving = serving
        self._servers = servers
        self._loop = asyncio.get_running_loop()
        limits = serving.limits
        shortest = min(limits.slow_seconds, limits.idle_seconds) / _SWEEPS_PER_LIMIT
        self._sweep_seconds = min(_SLOWEST_SWEEP_SECONDS, max(_DRAINING_SWEEP_SECONDS, shortest))
        self._timer = self._loop.call_later(self._sweep_seconds, self._sweep)

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._serving.connections)

    @property
    def held_bytes(self) -> int:
        """What requests without an answer take in memory, about."""
        return self._serving.budget.held

    @property
    def refusals(self) -> Mapping[str, int]:
        """Requests that never reached the application, by the reason: not HTTP, too large, too slow, too many."""
        return self._serving.refusals

    async def drain(self, seconds: float) -> int:
        """Take no more connections, finish what was accepted, and close; gives how many were cut off.

        Connections without a request close at once, those that had an answer just now a moment later; an answer says
        that the connection closes behind it. After `seconds` the rest is cut off.
        """
        serving = self._serving
        serving.is_draining = True
        # What the system has accepted for the server would be reset by closing the port: it is taken first.
        for _ in range(2):
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        self._timer.cancel()
        self._sweep_seconds = _DRAINING_SWEEP_SECONDS
        self._sweep()
        cut = await self._emptied(seconds)
        self._timer.cancel()
        return cut

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(self._sweep_seconds, self._sweep)
        self._serving.sweep()

    async def _emptied(self, seconds: float) -> int:
        """Wait for the last connection; cut off those that are left after the time."""
        serving = self._serving
        empty = asyncio.Event()
        serving.emptied = empty.set
        if not serving.connections and not serving.leaving:
            return 0
        try:
            await asyncio.wait_for(empty.wait(), seconds)
        except TimeoutError:
            left = [*serving.connections, *serving.leaving]
            for connection in left:
                connection.abort()
            await empty.wait()
            return len(left)
        return 0


async def listen(
    application: Application,
    listening: Listening,
    limits: Limits,
    *,
    bound: Bound | None = None,
    refuse: Refuse = refuse_plainly,
) -> Listener:
    """Take connections, let the application answer what comes on them, and `refuse` what never becomes a request.

    `bound` is the port, where the server has it already. Raises UsageError for a port that is taken or an address that
    is not this machine's, and what TLS raises.
    """
    context: ssl.SSLContext | None = None
    if listening.encryption is not None:
        from mlctl.serving.http.encryption import encrypted  # only who asks for it reads what TLS needs

        context = encrypted(listening.encryption)
    serving = Serving(application, limits, refuse, most_connections=_most_connections(limits.max_connections))
    loop = asyncio.get_running_loop()
    handshake = limits.slow_seconds if context else None
    bound = bound or await bind(listening.host, listening.port)
    servers = [
        await loop.create_server(
            lambda: Connection(serving), sock=each, backlog=_BACKLOG, ssl=context, ssl_handshake_timeout=handshake
        )
        for each in bound.listen(_BACKLOG)
    ]
    return Listener(serving, tuple(servers), bound.address, bound.port)


def _most_connections(wanted: int) -> int:
    """As many as are wanted, or as many as this process may hold open, after asking for more where it may ask."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = _OTHER_FILES + MOST_LEAVING
    needed = wanted + others
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, soft - others))
