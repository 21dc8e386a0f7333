"""A time at which something is to be done."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls once, at the time that was set last."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """No time is set."""
        self.at = float("inf")
        """By the event loop's clock; infinity where no time is set."""
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        """Call at this time, and at no other."""
        self.clear()
        self.at = at
        self._timer = loop.call_at(at, self._call)

    def clear(self) -> None:
        """Do not call."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.at = None, float("inf")

    def _call(self) -> None:
        self.clear()
        self._ring()
