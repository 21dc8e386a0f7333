"""Progress as plain lines, for logs."""

import time
from typing import IO

from mlctl.events import (
    Event,
    Note,
    Progress,
    StepAborted,
    StepFinished,
    StepReused,
    StepSkipped,
    StepStarted,
    Waiting,
    Warned,
)
from mlctl.units import duration_text

SECONDS_BETWEEN_LINES = 5.0


class PlainLines:
    """Writes a line for every event that is worth one; of progress, a line every few seconds."""

    def __init__(self, width: int, stream: IO[str]) -> None:
        self._width = width
        self._stream = stream
        self._step = ""
        self._last = time.monotonic()

    def tell(self, event: Event) -> None:
        """Write what the event says."""
        if isinstance(event, Progress):
            if time.monotonic() - self._last < SECONDS_BETWEEN_LINES:
                return
            self._last = time.monotonic()
        elif isinstance(event, StepStarted):
            self._step, self._last = event.step, time.monotonic()
        text = event_text(event, self._step, self._width)
        self._stream.write(text + "\n")
        self._stream.flush()


def event_text(event: Event, current: str, width: int) -> str:
    """One line for an event; `current` is the step at work."""
    if isinstance(event, Progress | Note | Warned):
        return f"{current:<{width}}  {_remark(event)}"
    return f"{event.step:<{width}}  {_change(event)}".rstrip()


def _change(event: StepStarted | StepReused | StepFinished | StepAborted | StepSkipped | Waiting) -> str:
    match event:
        case StepStarted(_, action, reasons):
            return f"{action:<7}{'; '.join(reasons)}"
        case StepReused():
            return "reuse"
        case StepFinished(_, seconds):
            return f"done   {duration_text(seconds)}"
        case StepAborted(_, what):
            return f"failed {what}"
        case StepSkipped():
            return "skipped"
        case Waiting():
            return "wait   another process is making it"


def _remark(event: Progress | Note | Warned) -> str:
    match event:
        case Progress():
            return progress_text(event)
        case Note(text):
            return text
        case Warned(text):
            return f"warning: {text}"


def progress_text(event: Progress) -> str:
    """Where the work stands: `epoch 3/30  loss 0.127  41,200 samples/s  12.0 s left`."""
    parts = [event.detail or f"{event.what} {event.done:,}/{event.total:,} {event.unit}"]
    if event.rate is not None:
        parts.append(f"{event.rate:,.0f} {event.unit}/s")
    if event.left is not None:
        parts.append(f"{duration_text(event.left)} left")
    return "  ".join(parts)
