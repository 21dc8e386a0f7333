"""A request that has arrived goes to the application, its body as it was before it was compressed."""

import asyncio
from typing import Final

from mlctl.serving.http.compression import decompressed
from mlctl.serving.http.exchange import Exchange
from mlctl.serving.http.messages import Request
from mlctl.serving.http.serving import Serving
from mlctl.serving.refusals import Refused, TooLarge

_MOST_AT_ONCE: Final = 2**18
"""Bytes that are decompressed on the event loop, in less than a millisecond.

Some thousand bytes may grow to millions: those do it in a thread, and nobody waits for them but their sender.
"""


def begin(request: Request, exchange: Exchange, serving: Serving) -> None:
    """Let the application answer, now or later."""
    codings = request.headers.get("content-encoding") if request.body else None
    if codings is None:
        drop = serving.application(request, exchange)
        if exchange.response is None:
            exchange.drop = drop
        return
    most = serving.limits.max_request_bytes
    found: bytes | Refused = _decompressed(request.body, codings, min(most, _MOST_AT_ONCE))
    if isinstance(found, TooLarge) and most > _MOST_AT_ONCE:
        aside = asyncio.get_running_loop().run_in_executor(None, _decompressed, request.body, codings, most)
        aside.add_done_callback(lambda done: _go_on(request, exchange, serving, done.result()))
        return
    _go_on(request, exchange, serving, found)


def _decompressed(body: bytes, codings: str, most: int) -> bytes | Refused:
    try:
        return decompressed(body, codings, most)
    except Refused as refused:
        return refused


def _go_on(request: Request, exchange: Exchange, serving: Serving, found: bytes | Refused) -> None:
    if exchange.is_abandoned:
        return
    if not isinstance(found, Refused):
        try:
            serving.budget.take(len(found) - len(request.body))
        except Refused as refused:
            found = refused
    if isinstance(found, Refused):
        serving.refuse(found, request, exchange)
        return
    exchange.held += len(found) - len(request.body)
    headers = {name: value for name, value in request.headers.items() if name != "content-encoding"}
    request.headers = {**headers, "content-length": str(len(found))}
    request.body = found
    begin(request, exchange, serving)
