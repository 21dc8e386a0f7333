"""Both logs of a server, on one stream."""

import os
import time
from dataclasses import dataclass

from mlctl.serving.telemetry.access_log import AccessLog
from mlctl.serving.telemetry.event_log import EventLog, json_event, plain_event
from mlctl.serving.telemetry.line_writer import LineWriter

STDERR = 2


@dataclass(frozen=True)
class Logs:
    """Where a server speaks."""

    access: AccessLog
    events: EventLog
    writer: LineWriter

    def close(self, seconds: float = 1.0) -> None:
        """Write what is there, and give up after so many seconds."""
        self.writer.close(seconds)


def open_logs(descriptor: int = STDERR, *, is_quiet: bool = False) -> Logs:
    """Logs on a descriptor: lines for a person where it is a terminal, JSON elsewhere.

    Who is quiet is told of warnings alone, and of no request.
    """
    is_plain = os.isatty(descriptor) and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
    form = plain_event if is_plain else json_event

    def said(count: int) -> bytes:
        return form("warning", f"{count:,} lines were dropped, since nobody reads them fast enough", time.time())

    writer = LineWriter(descriptor, said)
    return Logs(
        AccessLog(None if is_quiet else writer, is_plain=is_plain),
        EventLog(writer, is_plain=is_plain, is_quiet=is_quiet),
        writer,
    )
