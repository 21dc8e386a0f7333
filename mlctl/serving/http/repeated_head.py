"""The head of a request that a caller sends again: most send the same one with every request, byte for byte."""

from collections.abc import Mapping
from typing import Final, NamedTuple

_END: Final = b"\r\n\r\n"


class Head(NamedTuple):
    """What the head of a request says."""

    method: str
    path: str
    """Without the query, percent-encoding undone."""
    query: str
    headers: Mapping[str, str]
    """By name in lower case."""
    is_old: bool
    """Whether it speaks HTTP/1.0."""


class RepeatedHead(NamedTuple):
    """A head that was parsed, with its bytes. The same bytes say the same again, and need not be parsed."""

    head: Head
    raw: bytes
    """From the request line to the empty line."""
    size: int
    """Bytes of a whole request: the head, and as long a body as it declares."""


def repeated_head(data: bytes, head: Head) -> RepeatedHead | None:
    """The head that begins `data`, bytes that were parsed as this one request alone.

    None where its body comes in chunks, or it does not end where it seems to: one that ends in bare line feeds seems
    to end within the body, and then the lengths disagree.
    """
    if "transfer-encoding" in head.headers:
        return None
    end = data.find(_END) + len(_END)
    length = int(head.headers.get("content-length", 0))
    return RepeatedHead(head, data[:end], len(data)) if end + length == len(data) else None
