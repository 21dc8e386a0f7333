"""What happens to the server, in the same stream and form as its requests."""

import time
from collections.abc import Callable

from mlctl.events import Event, Note, Warned
from mlctl.serving.telemetry.json_lines import json_line, local_time, shown, utc_text
from mlctl.serving.telemetry.line_writer import LineWriter


class EventLog:
    """Writes notes and warnings: a version that takes requests, one that is refused and why, a drain."""

    def __init__(
        self,
        writer: LineWriter,
        *,
        is_plain: bool = False,
        is_quiet: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Who is quiet says warnings alone."""
        self._writer = writer
        self._is_plain = is_plain
        self._is_quiet = is_quiet
        self._now = now

    def tell(self, event: Event) -> None:
        """A `Tell` of the server; what is neither a note nor a warning is of no server."""
        is_warning = isinstance(event, Warned)
        if isinstance(event, Note | Warned) and (is_warning or not self._is_quiet):
            level = "warning" if is_warning else "info"
            line = plain_event if self._is_plain else json_event
            self._writer.write(line(level, event.text, self._now()))


def json_event(level: str, text: str, unix: float) -> bytes:
    """The line as JSON."""
    return json_line({"time": utc_text(unix), "level": level, "event": text})


def plain_event(level: str, text: str, unix: float) -> bytes:
    """The line as words: `12:00:00.123  warning: digits version 4 is refused: …`."""
    mark = f"{level}: " if level != "info" else ""
    return shown(f"{local_time(unix)}  {mark}{text}").encode() + b"\n"
