"""One JSON text in one line, and one text in one line: with nothing in them that a terminal would obey."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeAlias

import orjson

Field: TypeAlias = str | int | float | None


def json_line(fields: Mapping[str, Field]) -> bytes:
    """The fields as JSON with a line feed, in printable ASCII alone: everything else is escaped."""
    try:
        line = orjson.dumps(fields)
    except TypeError:
        # A half of a surrogate pair: orjson has no words for it.
        line = b"\x7f"
    if line.isascii() and b"\x7f" not in line:
        return line + b"\n"
    # Escapes what lies outside of blank to tilde: other alphabets, what turns a line around, DEL.
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def shown(text: str) -> str:
    """The text, with what cannot be seen spelled as Python spells it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def utc_text(unix: float) -> str:
    """A time as ISO 8601 has it, in UTC, to the millisecond: `2026-01-31T12:00:00.123Z`."""
    second, rest = divmod(round(unix * 1000), 1000)
    return f"{_second_text(second)}.{rest:03d}Z"


@lru_cache(maxsize=2)
def _second_text(unix: int) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def local_time(unix: float) -> str:
    """The time of day here, to the millisecond, for whoever watches."""
    second, rest = divmod(round(unix * 1000), 1000)
    return f"{time.strftime('%H:%M:%S', time.localtime(second))}.{rest:03d}"
