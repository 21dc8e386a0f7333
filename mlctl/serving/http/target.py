"""What a request line asks for."""

from typing import Final
from urllib.parse import unquote_to_bytes

from mlctl.serving.refusals import Malformed

_HEXADECIMAL: Final = frozenset(b"0123456789abcdefABCDEF")


def target(raw: bytes) -> tuple[str, str]:
    """The path with its percent-encoding undone, and the query as it came (RFC 9112, section 3.2).

    Raises Malformed for a path that is no UTF-8, holds control characters, or hides a separator in an encoding: what
    stands before this server must not read another path than it does.
    """
    if not raw.startswith(b"/"):
        raw = _without_authority(raw)
    if b"#" in raw:
        raise Malformed("a request's target has no fragment")
    path, _, query = raw.partition(b"?")
    if b"%" in path:
        return _decoded(path), query.decode("latin-1")
    return path.decode("latin-1"), query.decode("latin-1")


def _without_authority(raw: bytes) -> bytes:
    """The path and the query of a target in absolute form."""
    if raw == b"*":
        return raw
    scheme, mark, rest = raw.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise Malformed("a request's target begins with /")
    begin = min((place for place in (rest.find(b"/"), rest.find(b"?")) if place >= 0), default=len(rest))
    found = rest[begin:]
    return found if found.startswith(b"/") else b"/" + found


def _decoded(path: bytes) -> str:
    for piece in path.split(b"%")[1:]:
        if len(piece) < 2 or piece[0] not in _HEXADECIMAL or piece[1] not in _HEXADECIMAL:
            raise Malformed("a % in the path is not followed by two hexadecimal digits")
        if piece[:2].lower() in (b"2f", b"5c"):
            raise Malformed("the path hides a slash in a percent-encoding")
    try:
        text = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("the path is no UTF-8") from error
    if any(ord(each) < 32 or ord(each) == 127 for each in text):
        raise Malformed("the path holds a control character")
    return text
