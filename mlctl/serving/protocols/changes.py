"""Management calls that take their time: each in one task, which is kept until it is done."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mlctl.serving.catalogue import Catalogue
from mlctl.serving.http.messages import Request, Respond, Response
from mlctl.serving.http.refusing import with_headers
from mlctl.serving.refusals import Broken, NotReady, Refused


async def load_for(request: Request, catalogue: Catalogue, name: str, version: str | None) -> int:
    """Let a version take requests, and note in the request, for logs and the audit, which one it is; its number.

    Raises Unknown and NotReady.
    """
    request.model = name
    await catalogue.load(name, version)
    request.version = int(version) if version is not None else catalogue.find(name).signature.version
    return request.version


async def unload_for(request: Request, catalogue: Catalogue, name: str, version: str | None) -> None:
    """Let a version, or all, take no more requests, and note in the request which one. Raises Unknown."""
    await catalogue.unload(name, version)
    request.version = int(version) if version is not None else None


class Changes:
    """The changes that go on."""

    def __init__(self, refusal: Callable[[Refused], Response]) -> None:
        """`refusal` writes what is refused, in the protocol's own form."""
        self._refusal = refusal
        self._tasks: set[asyncio.Task[Response]] = set()
        """The event loop alone would let a task go before it is done."""

    def start(self, change: Coroutine[Any, Any, Response], respond: Respond) -> None:
        """Do it, and answer with what it gives, or with the refusal that it raises; a bug is told to the loop too."""

        def finished(task: asyncio.Task[Response]) -> None:
            self._tasks.discard(task)
            error = NotReady("the server ends") if task.cancelled() else task.exception()
            if error is None:
                respond(task.result())
                return
            refused = error if isinstance(error, Refused) else Broken("a bug in the server kept it from that")
            respond(with_headers(self._refusal(refused), refused))
            if refused is not error:
                raise error

        task = asyncio.get_running_loop().create_task(change)
        self._tasks.add(task)
        task.add_done_callback(finished)
