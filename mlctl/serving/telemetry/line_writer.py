"""Lines for a stream that may be slow, or stuck, without waiting for it."""

import os
import threading
from collections.abc import Callable
from typing import Final

GATHER_SECONDS: Final = 0.25
"""How long lines wait for company before they are written together."""
MOST_BYTES: Final = 2**20
"""That may wait; lines beyond are dropped, and counted."""
RETRY_SECONDS: Final = 0.05


class LineWriter:
    """Writes lines to a file descriptor from a thread of its own, which sleeps while there are none.

    A descriptor that takes nothing stops that thread and nobody else. It is not made non-blocking, since a terminal's
    is shared with the shell that it belongs to.
    """

    def __init__(
        self,
        descriptor: int,
        said: Callable[[int], bytes],
        *,
        gather_seconds: float = GATHER_SECONDS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """`said` gives the line that says how many lines were dropped."""
        self._descriptor = descriptor
        self._said = said
        self._gather_seconds = gather_seconds
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._bytes = 0
        """Of all lines that are not written yet."""
        self._untold = 0
        """Lines that were dropped since that was last said."""
        self._dropped = 0
        self._has_lines = threading.Event()
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlctl-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were never written."""
        return self._dropped

    def write(self, line: bytes) -> None:
        """Have a line written soon; it ends in a line feed."""
        with self._lock:
            if self._bytes + len(line) > self._most_bytes:
                self._untold += 1
                self._dropped += 1
                return
            self._bytes += len(line)
            self._lines.append(line)
        if not self._has_lines.is_set():
            self._has_lines.set()

    def close(self, seconds: float = 1.0) -> None:
        """Write what is there, and give up after so many seconds. What comes later may be lost."""
        self._is_closing.set()
        self._has_lines.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._is_closing.is_set():
            self._has_lines.wait()
            self._is_closing.wait(self._gather_seconds)
            self._has_lines.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
            untold, self._untold = self._untold, 0
        said = [self._said(untold)] if untold else []
        lost = self._put(b"".join((*lines, *said)))
        with self._lock:
            self._bytes -= sum(map(len, lines))
            self._dropped += max(0, lost - len(said))

    def _put(self, text: bytes) -> int:
        """Write all of it, and give how many lines were lost, because nobody reads any more or a disk is full."""
        while text:
            try:
                text = text[os.write(self._descriptor, text) :]
            except BlockingIOError:
                # Someone who shares the stream has made it non-blocking.
                if self._is_closing.wait(RETRY_SECONDS):
                    return text.count(b"\n")
            except OSError:
                return text.count(b"\n")
        return 0
