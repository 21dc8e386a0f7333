"""A line for every request."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from mlctl.serving.telemetry.json_lines import json_line, local_time, shown, utc_text
from mlctl.serving.telemetry.line_writer import LineWriter

_SANE: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_THIS_PROCESS: Final = os.urandom(8).hex()
_NUMBERS: Final = count(1)


def request_id(given: str | None) -> str:
    """What `X-Request-Id` says where it is a plain word of 128 characters at most; else one that nobody else has."""
    if given and _SANE.fullmatch(given):
        return given
    return f"{_THIS_PROCESS}-{next(_NUMBERS):x}"


@dataclass(slots=True)
class Access:
    """A request and its answer, as the log shows them."""

    client: str
    caller: str
    method: str
    path: str
    status: int
    bytes: int
    """Of the answer's body."""
    seconds: float
    """From the request's last byte to its answer."""
    request_id: str
    model: str = ""
    version: int | None = None


class AccessLog:
    """Writes a line for each request, in JSON or, for a person who watches, in words. Without a writer, none."""

    def __init__(
        self, writer: LineWriter | None, *, is_plain: bool = False, now: Callable[[], float] = time.time
    ) -> None:
        self._writer = writer
        self._line = plain_access if is_plain else json_access
        self._now = now

    @property
    def is_silent(self) -> bool:
        """Whether nothing is written."""
        return self._writer is None

    def answered(self, access: Access) -> None:
        """Have the line of a request written soon."""
        if self._writer is not None:
            self._writer.write(self._line(access, self._now()))


def json_access(access: Access, unix: float) -> bytes:
    """The line as JSON; times in milliseconds, and what is not known is null."""
    return json_line(
        {
            "time": utc_text(unix),
            "client": access.client,
            "caller": access.caller,
            "method": access.method,
            "path": access.path,
            "status": access.status,
            "bytes": access.bytes,
            "milliseconds": round(access.seconds * 1000, 3),
            "model": access.model or None,
            "version": access.version,
            "request_id": access.request_id,
        }
    )


def plain_access(access: Access, unix: float) -> bytes:
    """The line as words: `12:00:00.123  200  POST /v2/models/m/infer  1.2 ms  3120 B  alice@127.0.0.1  m@3  ID`."""
    version = "" if access.version is None else f"@{access.version}"
    model = f"  {access.model}{version}" if access.model else ""
    words = (
        f"{local_time(unix)}  {access.status}  {access.method} {access.path}  {access.seconds * 1000:.1f} ms  "
        f"{access.bytes} B  {access.caller}@{access.client}{model}  {access.request_id}"
    )
    return shown(words).encode() + b"\n"
