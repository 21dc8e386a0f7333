"""When a batcher has nothing left to do, and may be let go."""

import asyncio
from collections.abc import Callable


class Draining:
    """Who waits for the end of the work, and who keeps it from being the end."""

    def __init__(self, is_idle: Callable[[], bool]) -> None:
        """`is_idle` says whether all that was accepted is answered."""
        self._is_idle = is_idle
        self._held = 0
        """Requests that are on their way."""
        self._waiting: list[asyncio.Future[None]] = []

    def hold(self) -> Callable[[], None]:
        """Let it not be over before what this gives is called, once."""
        self._held += 1
        return self._release

    async def wait(self) -> None:
        """Until nothing is left of what was accepted, and nobody holds it."""
        if self._held or not self._is_idle():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def tell(self) -> None:
        """Look whether it is over."""
        if self._waiting and not self._held and self._is_idle():
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                if not each.done():
                    each.set_result(None)

    def _release(self) -> None:
        self._held -= 1
        self.tell()
