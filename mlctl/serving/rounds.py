"""Work that is done over and over: what goes wrong in one round is told, and does not end the others."""

from collections.abc import Awaitable
from typing import TypeVar

from mlctl.errors import MlctlError
from mlctl.events import Tell, Warned
from mlctl.serving.telemetry.bugs import bug_text

T = TypeVar("T")


class Rounds:
    """Tells what went wrong once, and again when it comes back after a round without it."""

    def __init__(self, tell: Tell, failure: str) -> None:
        """`failure` is what a warning begins with."""
        self._tell = tell
        self._failure = failure
        self._told: frozenset[str] = frozenset()
        self._now: set[str] = set()

    async def attempt(self, work: Awaitable[T]) -> T | None:
        """What it gives; None where it fails."""
        try:
            return await work
        except MlctlError as error:
            what = error.what
        except OSError as error:
            what = str(error)
        except Exception as error:  # noqa: BLE001 -- a bug in one round must not end the following of what goes on
            what = f"a bug in the server: {bug_text(error)}"
        if what not in self._told | self._now:
            self._tell(Warned(f"{self._failure}: {what}"))
        self._now.add(what)
        return None

    def end(self) -> None:
        """A round is over."""
        self._told, self._now = frozenset(self._now), set()
