"""A request of HTTP, and what it is answered with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias
from urllib.parse import parse_qs

from mlctl.serving.refusals import Refused

JSON = "application/json"
OCTETS = "application/octet-stream"


@dataclass(eq=False)
class Request:
    """A whole request."""

    method: str
    path: str
    """Without the query, percent-encoding undone."""
    headers: Mapping[str, str]
    """By name in lower case; those that came twice are joined by commas."""
    body: bytes
    client: str
    """The caller's address."""
    received: float
    """When its last byte came, by `time.monotonic`, which event loops count by."""
    raw_query: str = ""
    is_encrypted: bool = False
    model: str = ""
    """The model that computes, once that is known; for logs."""
    version: int | None = None

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The last value of every parameter."""
        return {name: values[-1] for name, values in parse_qs(self.raw_query, keep_blank_values=True).items()}

    @property
    def media(self) -> str:
        """The body's media type in lower case, without parameters; empty where the request does not say."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(slots=True)
class Response:
    """What goes back. Length and connection are the server's to add."""

    status: int
    body: bytes = b""
    media: str = JSON
    headers: tuple[tuple[str, str], ...] = field(default=())


Respond: TypeAlias = Callable[[Response], None]
"""Called once, on the event loop, at once or later."""
Drop: TypeAlias = Callable[[], None]
"""Called where the caller has gone before the answer came."""
Handler: TypeAlias = Callable[[Request, Mapping[str, str], Respond], Drop | None]
"""Answers a request, with the parts of the path that its route names, now or later. Raises Refused, and nothing else.

Gives what is to be called when the caller goes before there is an answer; None where that changes nothing.
"""
Refuse: TypeAlias = Callable[[Refused, Request, Respond], None]
"""Answers what never became a whole request, of which as much is known as could be read."""
Application: TypeAlias = Callable[[Request, Respond], Drop | None]
"""Answers whatever comes, now or later, refusals included. Never raises."""
