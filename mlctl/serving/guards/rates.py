"""How often one token may ask."""

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """A token bucket (RFC 2697's, with one rate): it fills at `rate` a second, to one second's worth, and at least 1.

    So a caller may send a second's requests at once, and over any longer span no more than the rate.
    """

    rate: float
    room: float
    level: float
    """What is in it, as of `filled`."""
    filled: float
    """Seconds of a clock that never goes back."""

    @classmethod
    def full(cls, rate: float, now: float) -> "Bucket":
        """A bucket of someone who has not asked yet."""
        room = max(rate, 1.0)
        return cls(rate, room, room, now)

    def take(self, now: float) -> float:
        """Take one request out: 0 where it may go on, else the seconds after which there is room for it."""
        level = self.level + (now - self.filled) * self.rate
        if level > self.room:
            level = self.room
        self.filled = now
        if level < 1.0:
            self.level = level
            return (1.0 - level) / self.rate
        self.level = level - 1.0
        return 0.0
