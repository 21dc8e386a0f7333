"""From the bytes of a connection to requests."""

import time
from collections import deque
from typing import Any, Final, NamedTuple

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from mlctl.serving.http.messages import Request
from mlctl.serving.http.repeated_head import Head, RepeatedHead, repeated_head
from mlctl.serving.http.target import target
from mlctl.serving.refusals import Busy, HeadersTooLarge, Malformed, Refused, TooLarge

MOST_HEAD_BYTES: Final = 32 * 2**10
"""Bytes that may come without a byte of a body: a head, what stands between chunks, or behind the last."""
MOST_HEADERS: Final = 128
_REQUEST_BYTES: Final = 2**10
"""What a request takes beside its body, about."""


class Arrived(NamedTuple):
    """A whole request, and what its connection must know of it."""

    request: Request
    is_last: bool
    """Whether the connection is to be closed after the answer."""
    is_old: bool
    """Whether it speaks HTTP/1.0."""
    held: int
    """Bytes to give back to the budget when the request is answered."""


class Budget:
    """Bytes of bodies that all connections hold together, from their arrival to the answer."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def take(self, count: int) -> None:
        """Raises Busy where that would be too much."""
        if self.held + count > self.most:
            raise Busy("the server holds as many bytes of requests as it may", retry_after=1)
        self.held += count

    def give(self, count: int) -> None:
        """Take back what was taken."""
        self.held -= count


class RequestReader:
    """Reads one connection's requests; the parser, llhttp in its strict mode, refuses ambiguous framing by itself.

    What it lets through and is refused here: codings of transfer other than `chunked`, chunks in HTTP/1.0, other
    versions than 1.0 and 1.1, no host or two, CONNECT. An offer to upgrade is ignored (RFC 9110, section 7.8).
    """

    def __init__(self, max_request_bytes: int, budget: Budget, client: str, *, is_encrypted: bool) -> None:
        self.arrived: deque[Arrived] = deque()
        """Whole requests, in order, for the connection to take."""
        self.is_within = False
        """Whether some bytes of a request have come, and not all."""
        self.is_over = False
        """Whether no further request is read."""
        self.wants_continue = False
        """Whether the caller waits for `100 Continue` before it sends the body."""
        self.body_left = 0
        """Bytes that are still to come of a body whose length was declared."""
        self._parser: Any = HttpRequestParser(self)
        self._max_request_bytes = max_request_bytes
        self._budget = budget
        self._client = client
        self._is_encrypted = is_encrypted
        self._quiet = 0
        self._held = 0
        self._is_upgrade = False
        self._body: bytes | bytearray = b""
        self._head: Head | None = None
        """Of the request that is read, or was read last; None before it has come whole."""
        self._repeated: RepeatedHead | None = None

    def feed(self, data: bytes | memoryview) -> None:
        """Read some bytes. Raises Refused, after which nothing more is read."""
        if self.is_over:
            return
        if self.is_within or not isinstance(data, bytes):
            self._parse(data)
            return
        if self._repeated is not None:
            data = self._without_repeated(data, self._repeated)
        if data:
            count = len(self.arrived)
            self._parse(data)
            if len(self.arrived) == count + 1 and not self.is_within and not self.is_over:
                self._repeated = repeated_head(data, self._head) if self._head is not None else None

    def _without_repeated(self, data: bytes, repeated: RepeatedHead) -> bytes:
        """Take the whole requests at the start of `data` whose head is known, and give what is left."""
        start, whole = 0, len(data)
        while start < whole and (found := repeated.find(data, start)) is not None:
            head, begin, end = found
            if end > whole or end - begin > self._max_request_bytes:
                break
            held = end - begin + _REQUEST_BYTES
            try:
                self._budget.take(held)
            except Refused:
                self._abandon()
                raise
            self._arrive(head, data[begin:end], held)
            start = end
        return data[start:] if start else data

    def _parse(self, data: bytes | memoryview) -> None:
        self._quiet += len(data)
        behind_offer: bytes | memoryview | None = None
        try:
            self._parser.feed_data(data)
        except HttpParserCallbackError as error:
            self._abandon()
            if isinstance(error.__context__, Refused):
                raise error.__context__ from None
            raise
        except HttpParserUpgrade as offer:
            behind_offer = data[offer.args[0] :]
        except HttpParserError as error:
            if not self.is_over:
                self._abandon()
                raise Malformed(f"this is no request of HTTP/1.1: {error}") from error
        if behind_offer is not None:
            self._ignore_upgrade(behind_offer)
        if self._quiet > MOST_HEAD_BYTES and self.is_within and not self.is_over:
            self._abandon()
            raise HeadersTooLarge(f"the headers are longer than {MOST_HEAD_BYTES} bytes")

    @property
    def unread(self) -> Request:
        """What is known of the request that is being read: before its head has come whole, who sends it."""
        head = self._head if self.is_within else None
        return self._request(head or Head("-", "-", "", {}, is_old=False), b"")

    @property
    def body_bytes(self) -> int:
        """How much has come of the body of a request that is not whole yet."""
        return len(self._body)

    def close(self) -> None:
        """Give back what a request that will not be whole has taken, and let go of the parser."""
        self._abandon()
        self._parser = None
        self._budget.give(sum(each.held for each in self.arrived))
        self.arrived.clear()

    def _abandon(self) -> None:
        self.is_over = True
        self._budget.give(self._held)
        self._held = 0
        self._body = b""

    def _ignore_upgrade(self, rest: bytes | memoryview) -> None:
        """Read the head once more without the offer: behind one, the parser takes no body for one."""
        self._is_upgrade = False
        lines = [f"{name}: {value}\r\n" for name, value in self._headers.items() if name != "upgrade"]
        start = f"{self._method} {self._url.decode('latin-1')} HTTP/1.1\r\n"
        self._parser = HttpRequestParser(self)
        self.feed("".join((start, *lines, "\r\n")).encode("latin-1"))
        self.feed(rest)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.is_within = True
        self._url = b""
        self._head = None
        self._headers: dict[str, str] = {}
        self._header_count = 0
        self._is_head_read = False
        self._body = b""
        self.body_left = 0

    def on_url(self, part: bytes) -> None:
        """A part of the target."""
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header, or a trailer, which is thrown away."""
        self._header_count += 1
        if self._header_count > MOST_HEADERS:
            raise HeadersTooLarge(f"there are more than {MOST_HEADERS} headers")
        if self._is_head_read:
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        headers = self._headers
        if key not in headers:
            headers[key] = text
        elif key == "host":
            raise Malformed("there are two hosts")
        else:
            headers[key] = f"{headers[key]}, {text}"

    def on_headers_complete(self) -> None:
        """All headers: whatever can be refused before the body comes is refused here."""
        self._is_head_read = True
        parser, headers = self._parser, self._headers
        self._method = parser.get_method().decode("latin-1")
        version = parser.get_http_version()
        self._is_old = version == "1.0"
        self._is_last = not parser.should_keep_alive()
        self._check_version(version)
        path, query = target(self._url)
        if path == "*" and self._method != "OPTIONS":
            raise Malformed("the target * is for OPTIONS alone")
        self._head = Head(self._method, path, query, headers, self._is_old)
        if parser.should_upgrade():
            if self._method == "CONNECT":
                raise Malformed("this is no proxy")
            self._is_upgrade = True
        elif "content-length" in headers or "transfer-encoding" in headers:
            self._check_body(headers)

    def _check_version(self, version: str) -> None:
        if version == "1.1":
            if "host" not in self._headers:
                raise Malformed("the header Host is missing")
        elif version != "1.0":
            raise Malformed(f"HTTP/{version} is not spoken here")

    def _check_body(self, headers: dict[str, str]) -> None:
        coding = headers.get("transfer-encoding")
        if coding is not None and (coding.lower() != "chunked" or self._is_old):
            raise Malformed("chunked is the one coding of transfer, and in HTTP/1.1 alone")
        self.body_left = int(headers.get("content-length", 0))
        if self.body_left > self._max_request_bytes:
            raise self._too_large()
        if "expect" in headers and not self._is_old:
            self.wants_continue = headers["expect"].lower() == "100-continue"

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._quiet = 0
        self.wants_continue = False
        self._budget.take(len(part))
        self._held += len(part)
        if self.body_left:
            self.body_left -= len(part)
        if not self._body:
            self._body = part
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += part
        if len(self._body) > self._max_request_bytes:
            raise self._too_large()

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        self._quiet = 0
        if self._is_upgrade or self._head is None:
            return
        self.is_within = False
        self.wants_continue = False
        self._budget.take(_REQUEST_BYTES)
        held = self._held + _REQUEST_BYTES
        body, self._body, self._held = self._body, b"", 0
        self.is_over = self._is_last
        self._arrive(self._head, bytes(body), held)

    def _arrive(self, head: Head, body: bytes, held: int) -> None:
        self.arrived.append(Arrived(self._request(head, body), self.is_over, head.is_old, held))

    def _request(self, head: Head, body: bytes) -> Request:
        method, path, query, headers, _ = head
        return Request(method, path, headers, body, self._client, time.monotonic(), query, self._is_encrypted)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._max_request_bytes} bytes")
