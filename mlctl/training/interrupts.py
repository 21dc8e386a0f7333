"""Ctrl-C and SIGTERM wait until the work can be left in order."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from mlctl.errors import Interrupted

DEFERRED = (signal.SIGINT, signal.SIGTERM)


class DeferredSignals:
    """While this context is active, the first SIGINT or SIGTERM is only noted; a second acts at once.

    Handlers belong to the main thread: elsewhere, and for a signal that the process ignores, nothing changes.
    A noted signal is never lost: where nobody hands it over, the end of the context does.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in DEFERRED:
                handler = signal.getsignal(number)
                if handler is not None and handler is not signal.SIG_IGN:
                    self._previous[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()
        if kind is None and self.received is not None:
            self.hand_over()

    def hand_over(self) -> NoReturn:
        """Give the noted signal to the handler that was there before; raises Interrupted where that returns."""
        if self.received is None:
            raise ValueError("no signal was received")
        number, self.received = self.received, None
        self._act(number, None)
        raise Interrupted(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
        else:
            self._act(number, frame)

    def _act(self, number: int, frame: FrameType | None) -> None:
        handler = self._previous[number]
        self._restore()
        if callable(handler):
            handler(number, frame)
        else:
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
