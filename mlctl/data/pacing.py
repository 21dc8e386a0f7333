"""Progress in bytes, told a few times a second."""

import time
from collections.abc import Callable

from mlctl.events import Progress, Tell

TELL_SECONDS = 0.2


def paced(tell: Tell, what: str, total: int) -> Callable[[int], None]:
    """Takes how many bytes are done, and tells it now and then and at the end."""
    told = -TELL_SECONDS

    def tell_position(position: int) -> None:
        nonlocal told
        if position == total or time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            tell(Progress(what, position, total, "bytes"))

    return tell_position
