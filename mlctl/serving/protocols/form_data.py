"""Files and fields of a form, as browsers and `curl -F` send them: multipart/form-data (RFC 7578)."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from mlctl.serving.protocols.bodies import text_of
from mlctl.serving.refusals import Malformed

MOST_PARTS: Final = 1024

_BOUNDARY: Final = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;",]{1,70}))', re.IGNORECASE)
_NAME: Final = re.compile(r';\s*name="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


@dataclass(frozen=True)
class FormPart:
    """One field of a form: its content type is empty where the part does not say."""

    name: str
    content_type: str
    content: bytes


def multipart(content_type: str, body: bytes) -> tuple[FormPart, ...]:
    """The parts of a body whose `Content-Type` is multipart/form-data, in their order.

    Raises Malformed without a boundary, for a form that does not end, or one of more than 1,024 parts.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise Malformed("multipart/form-data names no boundary")
    delimiter = b"\r\n--" + (found[1] or found[2]).encode()
    # The first delimiter may stand at the very beginning, without the line end that belongs to it.
    pieces = (b"\r\n" + body).split(delimiter, MOST_PARTS + 2)
    if len(pieces) > MOST_PARTS + 2:
        raise Malformed(f"a form of more than {MOST_PARTS:,} parts is not taken")
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise Malformed("the form ends before its last boundary")
    return tuple(_part(piece) for piece in pieces[1:-1])


def fields(body: bytes) -> tuple[FormPart, ...]:
    """The fields of a body of application/x-www-form-urlencoded. Raises Malformed."""
    try:
        found = parse_qsl(text_of(body), keep_blank_values=True, max_num_fields=MOST_PARTS, errors="strict")
    except ValueError:
        raise Malformed("the body is no application/x-www-form-urlencoded") from None
    return tuple(FormPart(name, "", value.encode()) for name, value in found)


def _part(piece: bytes) -> FormPart:
    head, found, content = piece.partition(b"\r\n\r\n")
    if not found or not head.lstrip(b" \t").startswith(b"\r\n"):
        raise Malformed("a part of the form has no headers")
    headers = {}
    for line in text_of(head).split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    named = _NAME.search(headers.get("content-disposition", ""))
    if named is None:
        raise Malformed("a part of the form has no name")
    return FormPart(named[1], headers.get("content-type", ""), content)
