"""Trying again what a network or a server may only just have failed at."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import SystemRandom
from typing import Final

from mlctl.errors import DataError, MachineError, MlctlError
from mlctl.events import Note, Tell
from mlctl.units import duration_text, plural

TRANSIENT_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
# A server may ask for an hour; a person who waits should rather be told.
LONGEST_WISH: Final = 120.0


class Transient(Exception):
    """Something that may go away by itself.

    `retry_after` is the pause in seconds that the server asks for. `is_own_network` says that no server could be asked,
    because this machine has no network.
    """

    def __init__(self, what: str, *, retry_after: float | None = None, is_own_network: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.retry_after = retry_after
        self.is_own_network = is_own_network


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for."""

    attempts: int = 5
    """Attempts in a row that may bring nothing."""

    silence: float = 30.0
    """Seconds without a byte after which a connection is given up."""

    pause: Callable[[float], None] = time.sleep
    """Waits for so many seconds."""

    # Not `random.random`: waiting must not move the state that shuffles somebody's data.
    chance: Callable[[], float] = SystemRandom().random
    """A number from 0 to 1, so that many clients that failed together do not come back together."""

    def seconds_after(self, failures: int, wish: float | None) -> float:
        """The pause after so many failures in a row: what the server wishes, else doubling, half of it by chance."""
        if wish is not None:
            return min(max(wish, 0.0), LONGEST_WISH)
        longest = min(FIRST_PAUSE * 2.0 ** (failures - 1), LONGEST_PAUSE)
        return longest * (0.5 + 0.5 * self.chance())


PATIENT: Final = Patience()


class Attempts:
    """Counts the failures in a row of one download, and pauses after each."""

    def __init__(self, subject: str, patience: Patience, tell: Tell) -> None:
        """`subject` is the address that people know the download by."""
        self.subject = subject
        self.patience = patience
        self._tell = tell
        self._failures = 0

    def succeeded(self) -> None:
        """Something new came: the next failure is the first again."""
        self._failures = 0

    def failed(self, failure: Transient) -> None:
        """Pause before the next attempt.

        Raises MachineError where this machine has no network, else DataError, when there have been enough.
        """
        self._failures += 1
        if self._failures >= self.patience.attempts:
            raise self._given_up(failure) from failure
        seconds = self.patience.seconds_after(self._failures, failure.retry_after)
        attempt = f"attempt {self._failures + 1} of {self.patience.attempts}"
        self._tell(Note(f"{self.subject}: {failure.what}; {attempt} in {duration_text(seconds)}"))
        self.patience.pause(seconds)

    def _given_up(self, failure: Transient) -> MlctlError:
        what = f"{failure.what}; tried {plural(self._failures, 'time')}"
        if failure.is_own_network:
            next_step = "check this machine's network and proxy settings (https_proxy, no_proxy)"
            return MachineError(what, where=self.subject, next=next_step)
        return DataError(what, where=self.subject, next="run the same command again later")


def retry_after(header: str | None) -> float | None:
    """The seconds that a `Retry-After` header asks for, as a number or as a date (RFC 9110, section 10.2.3).

    None where there is no header or it says neither.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)
