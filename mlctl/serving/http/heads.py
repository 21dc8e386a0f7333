"""The heads of responses."""

import time
from functools import cache
from http import HTTPStatus
from typing import Final

from mlctl.serving.http.messages import Response

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_BODILESS: Final = (204, 304)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CONTROLS: Final = {number: " " for number in (*range(9), *range(10, 32), 127)}
"""What would end a header, or be no part of one."""


def head(response: Response, date: str, connection: str) -> bytes:
    """The head of a response; `date` and `connection` are whole lines, or empty."""
    status, length = response.status, len(response.body)
    extra = _lines(response.headers) if response.headers else ""
    if status in _BODILESS:
        return f"{_status_line(status)}{date}{connection}{extra}\r\n".encode("latin-1", "replace")
    return (
        f"{_status_line(status)}{date}Content-Type: {response.media}\r\nContent-Length: {length}\r\n"
        f"{connection}{extra}\r\n"
    ).encode("latin-1", "replace")


def date_line(seconds: float) -> str:
    """The header `Date` for a Unix time (RFC 9110, section 5.6.7), whatever the locale."""
    now = time.gmtime(seconds)
    day, month = _DAYS[now.tm_wday], _MONTHS[now.tm_mon - 1]
    clock = f"{now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
    return f"Date: {day}, {now.tm_mday:02} {month} {now.tm_year} {clock} GMT\r\n"


@cache
def _status_line(status: int) -> str:
    phrase = HTTPStatus(status).phrase
    return f"HTTP/1.1 {status} {phrase}\r\nServer: mlctl\r\n"


def _lines(headers: tuple[tuple[str, str], ...]) -> str:
    return "".join(
        [f"{name}: {value if value.isprintable() else value.translate(_CONTROLS)}\r\n" for name, value in headers]
    )
