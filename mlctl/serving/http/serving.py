"""What all connections of a server share."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from mlctl.serving.http.heads import date_line
from mlctl.serving.http.messages import Application, Refuse, Request, Respond
from mlctl.serving.http.reading import Budget
from mlctl.serving.refusals import Refused
from mlctl.serving.settings import Limits

LINGER_SECONDS: Final = 2.0
"""How long what a refused caller still sends is read and thrown away.

Closed at once, the system would answer those bytes with a reset, and a reset may overtake the refusal.
"""
RECENT_SECONDS: Final = 0.5
"""How long a server that ends leaves a connection open that had an answer just now.

Its caller may have sent the next request already; that one is answered, and told that the connection closes.
"""
MOST_LEAVING: Final = 64
"""Connections beyond the limit that are told so at the same time; further ones are closed without a word."""
_BODIES_HELD: Final = 16
"""Bodies of the largest size that all connections may hold together."""


class Swept(Protocol):
    """A connection, as seen by whoever looks after its time."""

    def check(self, now: float) -> None:
        """End what has taken too long."""

    def abort(self) -> None:
        """Close at once, whatever is under way."""


class Serving:
    """The application, the limits, and who is connected."""

    def __init__(
        self, application: Application, limits: Limits, refuse: Refuse, *, most_connections: int | None = None
    ) -> None:
        self.application = application
        self._refuse = refuse
        self.limits = limits
        self.most_connections = most_connections or limits.max_connections
        self.budget = Budget(_BODIES_HELD * max(limits.max_request_bytes, 2**20))
        self.connections: set[Swept] = set()
        """Those that may send requests."""
        self.leaving: set[Swept] = set()
        """Those that came when there were too many, and are told so."""
        self.refusals: Counter[str] = Counter()
        """Requests that never reached the application, by the reason."""
        self.is_draining = False
        self.emptied: Callable[[], None] | None = None
        """Called when the last connection has gone."""
        self.date = date_line(time.time())
        """A line of the head; `sweep` keeps it right."""

    @property
    def idle_seconds(self) -> float:
        """How long a connection without a request stays open."""
        return min(self.limits.idle_seconds, RECENT_SECONDS) if self.is_draining else self.limits.idle_seconds

    @property
    def may_turn_away(self) -> bool:
        """Whether there is room to tell one more that there are too many."""
        return len(self.leaving) < MOST_LEAVING

    def sweep(self) -> None:
        """Look after everybody's time, once for all."""
        now = time.monotonic()
        self.date = date_line(time.time())
        for connection in (*self.connections, *self.leaving):
            connection.check(now)

    def forget(self, connection: Swept) -> None:
        """A connection has gone."""
        self.connections.discard(connection)
        self.leaving.discard(connection)
        if not self.connections and not self.leaving and self.emptied is not None:
            self.emptied()

    def refuse(self, refused: Refused, request: Request, respond: Respond) -> None:
        """Count what never became a whole request, and have it answered."""
        self.refusals[refused.reason] += 1
        self._refuse(refused, request, respond)
