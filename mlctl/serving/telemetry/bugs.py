"""Errors that nobody foresaw, as events: where they would else be told in many lines, late, or to nobody."""

import asyncio
import traceback
from pathlib import Path
from typing import Any, Final

from mlctl.events import Tell, Warned

_PLACES: Final = 6
"""Of the calls that led to the error, the innermost; more make a line that nobody reads."""


def tell_bugs(loop: asyncio.AbstractEventLoop, tell: Tell) -> None:
    """Let what a loop's callbacks and tasks raise be told at once, and in the form of all other events."""

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        tell(Warned(context["message"] if error is None else f"{context['message']}: {bug_text(error)}"))

    loop.set_exception_handler(handle)


def bug_text(error: BaseException) -> str:
    """What was raised, and where: `KeyError: 'x' (models.py:181 in _look, shelf.py:20 in names)`."""
    what = "".join(traceback.format_exception_only(error)).strip()
    calls = traceback.extract_tb(error.__traceback__)[-_PLACES:]
    places = ", ".join(f"{Path(each.filename).name}:{each.lineno} in {each.name}" for each in calls)
    return f"{what} ({places})" if places else what
