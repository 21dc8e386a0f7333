"""Which texts are numbers, and which numbers fit into float32: the same for preparing data and for serving."""

import re
from typing import Final

FLOAT32_LIMIT: Final = 2.0**128 - 2.0**103
"""Half a step above the largest float32: from here on a number rounds to infinity."""
SHOWN: Final = 40
"""Characters of a value that messages show."""

_NUMBER: Final = re.compile(r"[ \t]*[+-]?(\d++\.?\d*+|\.\d++)([eE][+-]?\d++)?[ \t]*", re.ASCII)
_NOT_FINITE: Final = re.compile(r"[ \t]*[+-]?(nan|inf|infinity)[ \t]*", re.IGNORECASE)


def reason_of_number(text: str) -> str:
    """Why a text of a table is no number that float32 holds, to follow on the column's name; empty where it is one."""
    is_number = _NUMBER.fullmatch(text) is not None
    if is_number and abs(float(text)) < FLOAT32_LIMIT:
        return ""
    if is_number:
        return f"holds {text[:SHOWN]!r}, more than float32 can hold"
    if not text.strip():
        return "is empty"
    kind = "a finite number" if _NOT_FINITE.fullmatch(text) else "a number"
    return f"holds {text[:SHOWN]!r}, not {kind}"
