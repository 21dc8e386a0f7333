"""Ctrl-C and SIGTERM become one kind of error, and are never lost."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mlctl.errors import Interrupted
from mlctl.events import Event, StepAborted, StepSkipped, Tell

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """What came of signals so far."""

    def __init__(self) -> None:
        self._pending: int | None = None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. Raises Interrupted."""
        self._pending = number
        raise Interrupted(number)

    def settle(self) -> None:
        """Say that the signal was answered."""
        self._pending = None

    def pending(self) -> Interrupted | None:
        """What a signal that was not answered yet asks for."""
        return None if self._pending is None else Interrupted(self._pending)

    def require_none(self) -> None:
        """Raise Interrupted for a signal that a library swallowed, or took for a failure of its own."""
        if interrupted := self.pending():
            raise interrupted

    def told(self, tell: Tell) -> Tell:
        """`tell`, which also stops the work where a signal was swallowed."""

        def checked(event: Event) -> None:
            if not isinstance(event, StepAborted | StepSkipped):
                self.require_none()
            tell(event)

        return checked


@contextmanager
def raising_interrupts() -> Iterator[Interrupts]:
    """Within, SIGINT and SIGTERM raise Interrupted in the main thread; afterwards none is left unanswered."""
    interrupts = Interrupts()
    before = {number: signal.signal(number, interrupts.receive) for number in SIGNALS}
    try:
        yield interrupts
    except Interrupted:
        raise
    except Exception:
        interrupts.require_none()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    interrupts.require_none()
