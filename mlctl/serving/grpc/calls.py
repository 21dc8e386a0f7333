"""Calls of gRPC: read, admitted, answered or refused, and told of."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from mlctl.serving.grpc import statuses
from mlctl.serving.guards.audit import Use
from mlctl.serving.guards.caller import ANONYMOUS, Guard
from mlctl.serving.http.routing import Scope
from mlctl.serving.refusals import Broken, Late, Malformed, Refused, Slow
from mlctl.serving.telemetry.access_log import Access, request_id

REQUEST_ID: Final = "x-request-id"
"""Metadata with which a caller names his request, and with which he is told its name."""


class Context(Protocol):
    """What is used of a call of `grpc.aio`."""

    def peer(self) -> str:
        """The caller's address."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """What came before the first message."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller waits no more; None where he does not say."""

    async def read(self) -> Any:
        """The next message as bytes, or `grpc.aio.EOF`."""

    async def write(self, message: bytes) -> None:
        """Send one more message."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """End with a status other than OK."""

    def set_details(self, details: str) -> None:
        """Say why."""

    def set_trailing_metadata(self, trailing: tuple[tuple[str, str], ...]) -> None:
        """Send this with the status."""


class OpenCalls:
    """How many calls there are that have not ended: `with open_calls:` is one."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1


@dataclass(frozen=True)
class Kind:
    """A kind of call: what it takes, whom it serves, and which model a request names."""

    service: str
    name: str
    """Such as `ModelInfer`."""
    takes: Any
    """The class of the request's message."""
    scope: Scope
    model: Callable[[Any], str] = lambda _: ""
    """The model that a request names; empty where it names none."""
    action: str = ""
    """What the audit calls it; empty for what the audit leaves out."""

    @cached_property
    def path(self) -> str:
        """As HTTP/2 carries it."""
        return f"/{self.service}/{self.name}"


@dataclass(slots=True)
class Call:
    """One request on its way: a call's only one, or one of a stream."""

    kind: Kind
    body: bytes
    client: str
    metadata: dict[str, str | bytes]
    request_id: str
    arrived: float
    """On the event loop's clock."""
    until: float = inf
    """How long its caller waits, on the same clock."""
    caller: str = ANONYMOUS.name
    model: str = ""
    version: int | None = None
    """The one that answers, once that is known."""

    def deadline(self, timeout_seconds: float) -> float:
        """When the answer must be there, on the event loop's clock."""
        return min(self.arrived + timeout_seconds, self.until)


Answer: TypeAlias = Callable[[Any, Call], Awaitable[Any]]
"""A message of the class that the kind takes in, the answer out: a message, or its bytes. Raises Refused."""


class Account(Protocol):
    """Keeps account of what is asked and answered."""

    def require_writable(self) -> None:
        """To be called before anything is computed or changed. Raises NotReady while the audit cannot be written."""

    def record(self, use: Use) -> None:
        """Have it in the audit, before the answer is sent. Raises NotReady."""

    def answered(self, access: Access, route: str) -> None:
        """Count and log an answer."""


@dataclass(frozen=True)
class Reception:
    """What every call passes on its way in and out."""

    guard: Guard
    account: Account
    slow_seconds: float
    """A call whose request has not arrived by then is ended."""
    open_calls: OpenCalls = field(default_factory=OpenCalls)

    def unary(self, kind: Kind, answer: Answer) -> Any:
        """The handler of a call with one request and one answer."""

        async def handle(_: object, context: Context) -> bytes | None:
            with self.open_calls:
                call = call_of(kind, context)
                try:
                    call.body = await self.read(context, call)
                    found = await self.one(call, answer)
                except Refused as refused:
                    end(context, refused, call.request_id)
                    return None
                context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
                return found

        # As a stream of requests: gRPC would wait without an end for the only message of a call that has none.
        return grpc.stream_unary_rpc_method_handler(handle)

    async def one(self, call: Call, answer: Answer) -> bytes:
        """The answer to one request that is whole. Raises Refused."""
        call.arrived = asyncio.get_running_loop().time()
        refusal, found = None, b""
        try:
            found = await self._answered(call, answer)
        except Refused as error:
            refusal = error
        except asyncio.CancelledError:
            self.logged(call, self._audited(call, Late("the caller has gone")), 0)
            raise
        except Exception as error:  # noqa: BLE001 -- a bug costs one caller his answer, and not all their server
            asyncio.get_running_loop().call_exception_handler({"message": call.kind.path, "exception": error})
            refusal = Broken("a bug in the server kept it from answering")
        refusal = self._audited(call, refusal)
        self.logged(call, refusal, 0 if refusal else len(found))
        if refusal is not None:
            raise refusal
        return found

    async def _answered(self, call: Call, answer: Answer) -> bytes:
        request = parsed(call.kind.takes, call.body)
        call.model = call.kind.model(request)
        if call.kind.scope != "open":
            call.caller = self.guard.admit(
                _text(call.metadata.get("authorization")), call.kind.scope, call.model or None
            ).name
        if call.kind.action:
            self.account.require_writable()
        found = await answer(request, call)
        return found if isinstance(found, bytes) else bytes(found.SerializeToString())

    def _audited(self, call: Call, refusal: Refused | None) -> Refused | None:
        """Why the call is refused after all, if it is."""
        if not call.kind.action:
            return refusal
        status = 200 if refusal is None else refusal.status
        try:
            self.account.record(
                Use(call.caller, call.client, call.kind.action, call.model, call.version, status, call.body)
            )
        except Refused as unwritten:
            return unwritten
        return refusal

    def logged(self, call: Call, refusal: Refused | None, size: int) -> None:
        """Tell of an answer of so many bytes, or of a refusal."""
        seconds = asyncio.get_running_loop().time() - call.arrived
        status = 200 if refusal is None else refusal.status
        path, identifier = call.kind.path, call.request_id
        self.account.answered(
            Access(call.client, call.caller, "gRPC", path, status, size, seconds, identifier, call.model, call.version),
            path,
        )

    async def read(self, context: Context, call: Call) -> bytes:
        """The only message of a call. Raises Slow, Malformed."""
        try:
            async with asyncio.timeout(self.slow_seconds):
                body = await context.read()
        except TimeoutError:
            refusal: Refused = Slow(f"the request did not arrive within {self.slow_seconds:g} s")
        else:
            if body is not grpc.aio.EOF:
                return bytes(body)
            refusal = Malformed("the call has no message")
        self.logged(call, refusal, 0)
        raise refusal


def call_of(kind: Kind, context: Context) -> Call:
    """A request that is about to be read."""
    now, remaining = asyncio.get_running_loop().time(), context.time_remaining()
    metadata = dict(context.invocation_metadata() or ())
    identifier = request_id(_text(metadata.get(REQUEST_ID)))
    until = inf if remaining is None else now + remaining
    return Call(kind, b"", client(context.peer()), metadata, identifier, now, until)


def end(context: Context, refused: Refused, request_id: str) -> None:
    """Let a call end in a refusal."""
    context.set_code(statuses.code(refused))
    context.set_details(statuses.details(refused))
    context.set_trailing_metadata(((REQUEST_ID, request_id), *statuses.trailing(refused)))


def parsed(takes: Any, body: bytes) -> Any:
    """The message of the class `takes` that these bytes are. Raises Malformed."""
    try:
        return takes.FromString(body)
    except DecodeError:
        raise Malformed(f"the message is no {takes.DESCRIPTOR.name}") from None


def client(peer: str) -> str:
    """The address without its port, of what gRPC writes as `ipv4:127.0.0.1:4242` or `ipv6:%5B::1%5D:4242`."""
    kind, _, place = unquote(peer).partition(":")
    return place.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else place


def _text(value: str | bytes | None) -> str | None:
    return value.decode("latin-1") if isinstance(value, bytes) else value
