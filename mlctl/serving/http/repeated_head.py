"""The head of a request that a caller sends again: most send the same one with every request, byte for byte."""

from collections.abc import Mapping
from typing import Final, NamedTuple

_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length:"
_MOST_DIGITS: Final = 12


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
    """A head that was parsed, with its bytes. The same bytes say the same again, and need not be parsed.

    The length of the body alone may be another one.
    """

    head: Head
    before: bytes
    """From the request line to the length of the body; to the empty line where there is no length."""
    length: str
    """Its digits; empty where there is none."""
    after: bytes

    def find(self, data: bytes, start: int) -> tuple[Head, int, int] | None:
        """The head, and where its body begins and ends, of a request that begins at `start`.

        None where its head is another one, or has not come whole.
        """
        if not data.startswith(self.before, start):
            return None
        begin = start + len(self.before)
        if not self.length:
            return self.head, begin, begin
        end = data.find(b"\r", begin, begin + _MOST_DIGITS)
        if end < 0 or not (digits := data[begin:end]).isdigit() or not data.startswith(self.after, end):
            return None
        begin = end + len(self.after)
        head, length = self.head, digits.decode()
        if length != self.length:
            head = head._replace(headers={**head.headers, "content-length": length})
        return head, begin, begin + int(length)


def repeated_head(data: bytes, head: Head) -> RepeatedHead | None:
    """The head that begins `data`, bytes that were parsed as this one request alone.

    None where its body comes in chunks, or it does not end where it seems to: one that ends in bare line feeds seems
    to end within the body, and then the lengths disagree.
    """
    if "transfer-encoding" in head.headers:
        return None
    length = head.headers.get("content-length", "")
    end = data.find(_END) + len(_END)
    if end + int(length or 0) != len(data):
        return None
    raw = data[:end]
    if not length:
        return RepeatedHead(head, raw, "", b"")
    named = raw.lower().find(_LENGTH) + len(_LENGTH)
    digits = raw.find(length.encode(), named)
    if named < len(_LENGTH) or raw[named:digits].strip(b" \t") or raw[digits + len(length)] != 13:
        return None
    return RepeatedHead(head, raw[:digits], length, raw[digits + len(length) :])
