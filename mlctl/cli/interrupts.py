"""Ctrl-C and SIGTERM become one kind of error."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mlctl.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def raising_interrupts() -> Iterator[None]:
    """Within, SIGINT and SIGTERM raise Interrupted in the main thread."""
    before = {number: signal.signal(number, _interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)
