"""How far a download has come, told at most five times a second."""

import time
from typing import Final

from mlctl.events import Progress, Tell
from mlctl.units import size_text

SECONDS_BETWEEN: Final = 0.2


class DownloadProgress:
    """Counts the bytes of one file."""

    def __init__(self, tell: Tell, name: str, total: int | None, done: int = 0) -> None:
        """`total` is None where the server does not say it; `done` bytes are there already."""
        self._tell = tell
        self._name = name
        self._total = total
        self._done = self._resumed_at = done
        self._started = time.monotonic()
        self._told = 0.0

    def advance(self, count: int) -> None:
        """So many bytes more are there; a negative number takes some back."""
        self._done += count
        is_whole = self._done == self._total
        if is_whole or time.monotonic() - self._told >= SECONDS_BETWEEN:
            self._told = time.monotonic()
            self._tell(self._event())

    def _event(self) -> Progress:
        seconds = self._told - self._started
        rate = max(self._done - self._resumed_at, 0) / seconds if seconds > SECONDS_BETWEEN else None
        left = (self._total - self._done) / rate if self._total is not None and rate else None
        whole = "" if self._total is None else f" of {size_text(self._total)}"
        detail = f"{self._name}  {size_text(self._done)}{whole}"
        return Progress("download", self._done, self._total or 0, "bytes", detail, rate, left)
