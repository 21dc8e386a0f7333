"""Answers on their way to their callers."""

import asyncio
from collections import deque
from collections.abc import Callable

from mlctl.runtime.answers import Arrays
from mlctl.serving.inference import Inference
from mlctl.serving.refusals import Refused


class Outbox:
    """Tells callers one after the other; what one of them raises is for the loop's exception handler."""

    def __init__(self, emptied: Callable[[], None]) -> None:
        """`emptied` is called whenever nothing is left to be told."""
        self._emptied = emptied
        self._found: deque[tuple[Inference, Arrays | Refused]] = deque()

    def __bool__(self) -> bool:
        return bool(self._found)

    def put(self, inference: Inference, found: Arrays | Refused) -> None:
        """Keep an answer until `send`."""
        self._found.append((inference, found))

    def send(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell everybody who has not gone; the rest in another turn of the loop where one of them raises."""
        found = self._found
        try:
            while found:
                inference, answer = found.popleft()
                if not inference.is_dropped:
                    inference.answered(answer)
        finally:
            if found:
                loop.call_soon(self.send, loop)
            else:
                self._emptied()
