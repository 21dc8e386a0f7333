"""One connection: requests in, answers out in the same order, nobody waits for ever."""

import asyncio
import time
from collections import deque
from typing import Final, cast

from mlctl.serving.http.beginning import begin
from mlctl.serving.http.compression import compressed
from mlctl.serving.http.exchange import Exchange
from mlctl.serving.http.heads import CONTINUE, head
from mlctl.serving.http.messages import Response
from mlctl.serving.http.reading import RequestReader
from mlctl.serving.http.serving import LINGER_SECONDS, Serving
from mlctl.serving.refusals import Busy, Refused, Slow

MOST_IN_FLIGHT: Final = 16
"""Requests of one connection that are worked on at the same time; then no more are read."""
_PIECE: Final = 16 * 2**10
"""Most bytes that are parsed before the requests in them are begun, a long body aside: they bound what lies waiting."""
_SLOWEST: Final = 64 * 2**10
"""Bytes of a body that must arrive in a second, beside the time that its head has: half a megabit, which a poor mobile
connection still carries. At that rate the largest body of the defaults takes 17 minutes, and nobody takes longer."""
_SMALL: Final = 16 * 2**10
"""Bytes up to which copying a body behind its head is cheaper than handing both to the system."""


class Connection(asyncio.Protocol):
    """Reads requests, lets the application answer them, and writes the answers in the requests' order."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._exchanges: deque[Exchange] = deque()
        self._unread: bytes | memoryview = b""
        """What came while no more could be taken."""
        self._refused: Refused | None = None
        """What is wrong with the request that follows those that have arrived whole."""
        self._is_pumping = False
        self._is_paused = False
        self._is_ended = False
        """Whether the caller will send nothing more."""
        self._is_leaving = False
        """Whether what comes is thrown away: the last answer is written."""
        self._reading_since = 0.0
        """When the first byte of an unfinished request came; 0 where there is none, or reading is paused."""
        self._stuck_since = 0.0
        """Since when the caller has not taken his answers; 0 where he takes them."""
        self._leaving_until = 0.0
        self._idle_since = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The caller has connected, and has proven himself encrypted where that is asked for."""
        serving = self._serving
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods alone
        peer = transport.get_extra_info("peername")
        self._is_encrypted = transport.get_extra_info("sslcontext") is not None
        self._reader = RequestReader(
            serving.limits.max_request_bytes,
            serving.budget,
            str(peer[0]) if peer else "",
            is_encrypted=self._is_encrypted,
        )
        if len(serving.connections) < serving.most_connections:
            serving.connections.add(self)
        elif serving.may_turn_away:
            serving.leaving.add(self)
            self._refuse(Busy("the server has as many connections as it may", retry_after=1))
        else:
            serving.refusals[Busy.reason] += 1
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Some bytes."""
        if self._is_leaving:
            return
        self._unread = bytes(self._unread) + data if self._unread else data
        self._pump()

    def eof_received(self) -> bool:
        """The caller sends nothing more; gives whether to answer what he has sent.

        Whether he has closed only this direction, or gone, shows when something is written to him (`check`).
        """
        self._is_ended = True
        if self._is_encrypted or self._is_leaving or not (self._exchanges or self._reader.arrived or self._unread):
            return False
        self._probe()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by whomever."""
        self._is_leaving = True
        self._unread = b""
        self._reader.close()
        exchanges, self._exchanges = self._exchanges, deque()
        for exchange in exchanges:
            self._serving.budget.give(exchange.held)
            exchange.abandon()
        self._serving.forget(self)

    def pause_writing(self) -> None:
        """The caller does not take his answers: nothing more is read from him, or begun."""
        self._stuck_since = time.monotonic()
        self._pump()

    def resume_writing(self) -> None:
        """He takes them again."""
        self._stuck_since = 0.0
        self._pump()

    def check(self, now: float) -> None:
        """End what has taken too long."""
        slow = self._serving.limits.slow_seconds
        if self._leaving_until:
            is_overdue = now > self._leaving_until
        else:
            is_overdue = self._stuck_since > 0 and now - self._stuck_since > slow
        if is_overdue:
            self._transport.abort()
        elif self._leaving_until or self._stuck_since:
            return
        elif self._reading_since:
            if now - self._reading_since > slow + self._reader.body_bytes / _SLOWEST:
                self._refuse(
                    Slow(
                        f"the request took longer to arrive than {slow:g} s, and 1 s more for every 64 KiB of its body"
                    )
                )
        else:
            self._check_idle(now)

    def _check_idle(self, now: float) -> None:
        if self._exchanges:
            self._probe()
        elif now - self._idle_since > self._serving.idle_seconds:
            self._close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def flush(self) -> None:
        """Write the answers whose turn it is."""
        exchanges = self._exchanges
        while exchanges and (response := exchanges[0].response) is not None:
            exchange = exchanges.popleft()
            self._serving.budget.give(exchange.held)
            is_last = exchange.is_last or self._is_drained()
            self._write(exchange, response, is_last)
            if is_last:
                self._leave(may_send=exchange.is_refusal or not exchange.is_last)
                return
        if not exchanges:
            self._idle_since = time.monotonic()
        if not self._is_pumping and (self._is_paused or self._is_ended or self._unread or self._reader.wants_continue):
            self._pump()

    def _is_drained(self) -> bool:
        """Whether the server ends, and this connection has nothing more under way."""
        reader = self._reader
        is_busy = self._exchanges or reader.arrived or reader.is_within or self._unread
        return self._serving.is_draining and not is_busy

    def _write(self, exchange: Exchange, response: Response, is_last: bool) -> None:
        if exchange.accepted and not exchange.is_head:
            response = compressed(response, exchange.accepted)
        connection = "Connection: close\r\n" if is_last else "Connection: keep-alive\r\n" if exchange.is_old else ""
        top, body = head(response, self._serving.date, connection), response.body
        if exchange.is_head or not body:
            self._transport.write(top)
        elif len(body) <= _SMALL:
            self._transport.write(top + body)
        else:
            self._transport.writelines((top, body))

    def _pump(self) -> None:
        """Begin what has arrived, and read on, as far as both may go."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while not self._is_leaving and self._goes_on():
                self._feed()
        finally:
            self._is_pumping = False
        self._settle()

    def _goes_on(self) -> bool:
        """Begin what has arrived; gives whether more is to be parsed."""
        arrived = self._reader.arrived
        if arrived:
            self._begin()
            if arrived:
                return False
        if self._refused is not None:
            refused, self._refused = self._refused, None
            self._refuse(refused)
            return False
        return bool(self._unread) and not self._stuck_since and not self._is_leaving

    def _begin(self) -> None:
        """Give the application what has arrived, as much as may be in flight."""
        arrived, exchanges, serving = self._reader.arrived, self._exchanges, self._serving
        while arrived and len(exchanges) < MOST_IN_FLIGHT and not self._stuck_since and not self._is_leaving:
            each = arrived.popleft()
            # What follows is another request, with a time of its own.
            self._reading_since = 0.0
            exchange = Exchange(self.flush, each)
            exchanges.append(exchange)
            begin(each.request, exchange, serving)

    def _feed(self) -> None:
        """Parse a piece of what was not read yet."""
        data, reader = self._unread, self._reader
        size = max(_PIECE, reader.body_left)
        if len(data) <= size:
            self._unread = b""
        else:
            data, self._unread = memoryview(data)[:size], memoryview(data)[size:]
        try:
            reader.feed(data)
        except Refused as refused:
            self._unread = b""
            self._refused = refused

    def _settle(self) -> None:
        """What follows from how far reading has come: whether bytes are wanted, and whose time runs."""
        if self._is_leaving:
            return
        reader = self._reader
        is_full = bool(reader.arrived or self._unread or self._stuck_since)
        if is_full != self._is_paused and not self._is_ended:
            self._is_paused = is_full
            if is_full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
        if is_full or self._is_ended or reader.is_over or not reader.is_within:
            self._reading_since = 0.0
        elif not self._reading_since:
            self._reading_since = time.monotonic()
        if not (is_full or self._exchanges):
            self._wait()

    def _wait(self) -> None:
        """All that has come is answered."""
        if self._is_ended:
            self._close()
        elif self._reader.wants_continue:
            self._reader.wants_continue = False
            self._transport.write(CONTINUE)

    def _refuse(self, refused: Refused) -> None:
        """Answer, after those that came before, what is no request, and read no more."""
        self._unread = b""
        self._reading_since = 0.0
        self._reader.is_over = True
        exchange = Exchange(self.flush, None)
        self._exchanges.append(exchange)
        self._serving.refuse(refused, self._reader.unread, exchange)

    def _leave(self, *, may_send: bool) -> None:
        """The last answer is written; the caller may still send, who did not know that it would be the last."""
        if self._is_ended or not may_send:
            self._close()
            return
        self._part()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()

    def _close(self) -> None:
        """Close when everything is written, and TLS has said so to the other side."""
        self._part()
        self._transport.close()

    def _part(self) -> None:
        """Throw away what comes, and do not wait for ever for the other side to take its answers and close."""
        self._is_leaving = True
        self._unread = b""
        is_written = not self._transport.get_write_buffer_size()
        slow = self._serving.limits.slow_seconds
        self._leaving_until = time.monotonic() + (LINGER_SECONDS if is_written else max(LINGER_SECONDS, slow))

    def _probe(self) -> None:
        """Write to a caller who sends nothing more: the system of one that has gone answers with a reset.

        An interim response may come at any time and in any number (RFC 9110, section 15.2).
        """
        if self._is_ended and self._exchanges and not self._exchanges[0].is_old:
            self._transport.write(CONTINUE)
