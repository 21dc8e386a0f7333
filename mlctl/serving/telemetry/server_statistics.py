"""What becomes of a server's requests before a model sees them, and of its connections."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def _none() -> int:
    return 0


@dataclass
class ServerStatistics:
    """Of one server, since it began: where its metrics read what others count."""

    connections: Callable[[], int] = _none
    """How many are open now."""
    held_bytes: Callable[[], int] = _none
    """What requests without an answer take in memory, about."""
    dropped_lines: Callable[[], int] = _none
    """Lines of the log that nobody read fast enough."""
    responses: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """Answers by the route's path as it is written in the routes, and status. Answers without a route have an empty
    one: what a caller made up is no label, since there is no end to it."""
    refusals: Mapping[str, int] = field(default_factory=dict)
    """Requests that never came as far as a route, by reason: not HTTP, too large, too slow, too many."""
