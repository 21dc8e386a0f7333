"""Time that passes when a test says so."""

from dataclasses import dataclass


@dataclass
class Clock:
    """Gives its seconds when it is called."""

    seconds: float = 1_000.0

    def __call__(self) -> float:
        """Now."""
        return self.seconds

    def pass_by(self, seconds: float) -> None:
        """Let time go on."""
        self.seconds += seconds
