"""Bodies that take long to read, as image files do, are read in a thread: nobody waits for them but their sender."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, TypeVar

from mlctl.serving.catalogue import Live
from mlctl.serving.http.messages import Drop, Request, Respond, Response
from mlctl.serving.http.refusing import with_headers
from mlctl.serving.refusals import Broken, Refused

Read = TypeVar("Read")

_LONG: Final = 2**16
"""Bytes from which a body with texts is read aside: some milliseconds."""


def read_then(
    live: Live,
    request: Request,
    respond: Respond,
    *,
    read: Callable[[], Read],
    go_on: Callable[[Read], Drop],
    refusal: Callable[[Refused], Response],
) -> Drop:
    """Let `read` read the request, then `go_on` with what it found; both raise Refused, and nothing else.

    What a model of images is sent may be a small file of a large image, so that it is read aside whatever its size.
    """
    kinds = live.natural.kinds
    if "image" not in kinds and ("text" not in kinds or len(request.body) < _LONG):
        return go_on(read())
    waiting = _Waiting()

    release = live.hold()

    def finish(done: "asyncio.Future[Read]") -> None:
        try:
            if not waiting.is_dropped:
                waiting.drop = go_on(done.result())
        except Refused as refused:
            respond(with_headers(refusal(refused), refused))
        except Exception as error:  # noqa: BLE001 -- a bug costs one caller his answer, and nobody waits for ever
            context = {"message": f"{request.method} {request.path}", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            respond(refusal(Broken("a bug in the server kept it from answering")))
        finally:
            release()
            # Else a refusal's traceback, which has this frame, would hold the body until garbage is looked for.
            del done

    asyncio.get_running_loop().run_in_executor(_thread(), read).add_done_callback(finish)
    return waiting.leave


class _Waiting:
    """A request that is read aside."""

    def __init__(self) -> None:
        self.is_dropped = False
        self.drop: Drop | None = None

    def leave(self) -> None:
        """The caller has gone."""
        self.is_dropped = True
        if self.drop is not None:
            self.drop()


@cache
def _thread() -> ThreadPoolExecutor:
    # One alone: how Pillow is kept from warning is a state of the whole process.
    return ThreadPoolExecutor(1, thread_name_prefix="mlctl-reading")
