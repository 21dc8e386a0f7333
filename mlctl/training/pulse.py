"""How often a training says where it stands."""

import time

from mlctl.events import Progress, Tell

PULSE_SECONDS = 0.2


class Pulse:
    """Tells the progress of a training, at most five times a second, and measures its speed."""

    def __init__(self, tell: Tell, total: int, done: int) -> None:
        """`total` and `done` count samples; `done` were trained on before this process."""
        self.tell = tell
        self.total = total
        self.resumed_at = done
        self.started = time.monotonic()
        self.told = self.started

    def is_due(self) -> bool:
        """Whether enough time has passed to say something again."""
        return time.monotonic() - self.told >= PULSE_SECONDS

    def beat(self, done: int, detail: str) -> None:
        """Tell that `done` samples of the whole training are behind us."""
        self.told = time.monotonic()
        rate = self.rate(done)
        left = (self.total - done) / rate if rate else None
        self.tell(Progress("training", done, self.total, "samples", detail, rate or None, left))

    def rate(self, done: int) -> float:
        """Samples per second of this process, validation and checkpoints included."""
        seconds = time.monotonic() - self.started
        return (done - self.resumed_at) / seconds if seconds else 0.0
