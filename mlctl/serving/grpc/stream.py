"""ModelStreamInfer: many requests over one call, each answered once, in the order in which answers are ready.

An answer bears its request's id, by which the caller tells them apart. A request that is refused is answered with
`error_message`, beside its id, and the stream goes on. Models that answer a request several times do not exist here.
"""

import asyncio
from typing import Any, Final

import grpc
import grpc.aio

from mlctl.serving.catalogue import Catalogue
from mlctl.serving.grpc import statuses
from mlctl.serving.grpc.calls import Call, Context, Kind, Reception, call_of, end, parsed
from mlctl.serving.grpc.infer import infer
from mlctl.serving.grpc.open_inference_messages import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from mlctl.serving.grpc.wire import streamed
from mlctl.serving.refusals import Malformed, NotReady, Refused, Slow

AT_ONCE: Final = 256
"""Requests of one stream that wait, are computed, or whose answers are not taken yet; then no more of it is read."""


class Streams:
    """All streams that are open."""

    def __init__(self, catalogue: Catalogue, reception: Reception) -> None:
        self._catalogue = catalogue
        self._reception = reception
        self._readers: set[asyncio.Task[None]] = set()
        self._is_ending = False

    def handler(self, kind: Kind) -> Any:
        """What answers a stream."""

        async def handle(_: object, context: Context) -> None:
            with self._reception.open_calls:
                call = call_of(kind, context)
                refusal: Refused | None = None
                try:
                    if not self._is_ending:
                        await _Stream(self._catalogue, self._reception, kind, context).answer(self._readers)
                except* TimeoutError:
                    # The status waits behind the answer that is not taken: gRPC has nothing that goes before it.
                    refusal = Slow(f"an answer was not taken within {self._reception.slow_seconds:g} s")
                    self._reception.logged(call, refusal, 0)
                if self._is_ending:
                    refusal = NotReady("the server is about to end", retry_after=1.0)
                if refusal is not None:
                    end(context, refusal, call.request_id)

        return grpc.stream_stream_rpc_method_handler(handle)

    def end(self) -> None:
        """Read no more requests; streams end when what was read is answered."""
        self._is_ending = True
        for each in self._readers:
            each.cancel()


class _Stream:
    def __init__(self, catalogue: Catalogue, reception: Reception, kind: Kind, context: Context) -> None:
        self._catalogue = catalogue
        self._reception = reception
        self._kind = kind
        self._context = context
        self._room = asyncio.Semaphore(AT_ONCE)
        self._turn = asyncio.Lock()
        """Of writing: gRPC takes one message at a time."""

    async def answer(self, readers: set[asyncio.Task[None]]) -> None:
        """Answer what comes, until no more does; the task that reads is among `readers` so long.

        Raises TimeoutError, in a group, where an answer is not taken in time.
        """
        async with asyncio.TaskGroup() as requests:
            reader = requests.create_task(self._read(requests))
            readers.add(reader)
            reader.add_done_callback(readers.discard)

    async def _read(self, requests: asyncio.TaskGroup) -> None:
        while True:
            await self._room.acquire()
            body = await self._context.read()
            if body is grpc.aio.EOF:
                return
            call = call_of(self._kind, self._context)
            call.body = body
            requests.create_task(self._answer_one(call))

    async def _answer_one(self, call: Call) -> None:
        try:
            message = await self._reception.one(call, self._infer)
        except Refused as refused:
            message = _refusal(call.body, refused)
        await self._turn.acquire()
        async with asyncio.timeout(self._reception.slow_seconds):
            await self._context.write(message)
        # Whose answer was not taken keeps the turn: gRPC still has that message.
        self._turn.release()
        self._room.release()

    async def _infer(self, request: ModelInferRequest, call: Call) -> bytes:
        return streamed(await infer(self._catalogue, request, call))


def _refusal(body: bytes, refused: Refused) -> bytes:
    try:
        identifier = parsed(ModelInferRequest, body).id
    except Malformed:
        identifier = ""
    answer = ModelStreamInferResponse(
        error_message=statuses.details(refused), infer_response=ModelInferResponse(id=identifier)
    )
    return bytes(answer.SerializeToString())
