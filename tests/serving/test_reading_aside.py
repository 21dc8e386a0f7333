"""An image that takes long to decode keeps nobody waiting but its sender."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from wire_models import all_routes, catalogue, png

from mlctl.digests import Json
from mlctl.runtime.answers import Arrays
from mlctl.serving.catalogue import Live
from mlctl.serving.http.messages import Drop, Request, Response
from mlctl.serving.http.routing import Router
from mlctl.serving.inference import Inference
from mlctl.serving.natural.values import Kind, Natural

PATIENCE = 30.0


class Slow:
    """A Natural whose images take until they are let go on."""

    def __init__(self, natural: Natural, failure: Exception | None = None) -> None:
        self._natural = natural
        self._failure = failure
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.kinds: frozenset[Kind] = natural.kinds

    def from_image(self, body: bytes) -> Arrays:
        self.began.set()
        assert self.may_end.wait(PATIENCE)
        if self._failure:
            raise self._failure
        return self._natural.from_image(body)

    def from_rows(self, rows: Sequence[Mapping[str, Any]]) -> Arrays:
        return self._natural.from_rows(rows)

    def from_texts(self, texts: Sequence[str]) -> tuple[Arrays, ...]:
        return self._natural.from_texts(texts)

    def meant(self, outputs: Arrays) -> list[Json]:
        return self._natural.meant(outputs)


class SlowlyRead:
    """A Live with that Natural."""

    def __init__(self, live: Live, natural: Natural) -> None:
        self._live = live
        self.natural = natural
        self.signature = live.signature
        self.statistics = live.statistics
        self.timeout_seconds = live.timeout_seconds
        self.queue = live.queue
        self.submitted = 0
        self.held = 0

    def hold(self) -> Callable[[], None]:
        self.held += 1
        return self._release

    def _release(self) -> None:
        self.held -= 1

    def submit(self, inference: Inference) -> None:
        self.submitted += 1
        self._live.submit(inference)


class World:
    """A model of images, and its routes."""

    def __init__(self, folder: Path, failure: Exception | None = None) -> None:
        models = catalogue(folder)
        computed = models.there["light", 1]
        self.slow = Slow(computed.natural, failure)
        self.live = SlowlyRead(computed, self.slow)
        models.there["light", 1] = cast("Any", self.live)
        self._router = Router(all_routes(models))
        self.told: list[dict[str, Any]] = []

    def send(self, method: str, path: str, body: bytes = b"") -> tuple["asyncio.Future[Response]", Drop | None]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.told.append(context))
        route, parameters = self._router.find(method, path)
        answer: asyncio.Future[Response] = loop.create_future()
        request = Request(method, path, {"content-type": "image/png"}, body, "127.0.0.1", loop.time())
        return answer, route.handler(request, parameters, answer.set_result)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


IMAGE = png([200, 200], [200, 200])


def test_others_are_answered_while_an_image_is_decoded(world: World) -> None:
    async def tried() -> None:
        image, _ = world.send("POST", "/predictions/light", IMAGE)
        await asyncio.to_thread(world.slow.began.wait, PATIENCE)
        other, _ = world.send("GET", "/ping")
        assert (await other).status == 200
        assert not image.done()
        # Another version may take its place meanwhile: this one stays until it has the image.
        assert world.live.held == 1
        world.slow.may_end.set()
        assert (await asyncio.wait_for(image, PATIENCE)).status == 200

    asyncio.run(tried())
    assert (world.live.submitted, world.live.held) == (1, 0)


def test_an_image_whose_sender_has_gone_is_not_computed(world: World) -> None:
    async def tried() -> None:
        image, drop = world.send("POST", "/predictions/light", IMAGE)
        await asyncio.to_thread(world.slow.began.wait, PATIENCE)
        assert drop is not None
        drop()
        world.slow.may_end.set()
        # The next image waits for the same thread: when it is read, so was the first.
        after, _ = world.send("POST", "/predictions/light", b"no image")
        assert (await asyncio.wait_for(after, PATIENCE)).status == 400
        assert not image.done()

    asyncio.run(tried())
    assert (world.live.submitted, world.live.held, world.told) == (0, 0, [])


def test_a_bug_in_reading_costs_its_caller_alone_an_answer(tmp_path: Path) -> None:
    async def tried() -> None:
        world = World(tmp_path, failure=ZeroDivisionError("a bug"))
        world.slow.may_end.set()
        image, _ = world.send("POST", "/predictions/light", IMAGE)
        answer = await asyncio.wait_for(image, PATIENCE)
        assert answer.status == 500
        assert b"ZeroDivisionError" not in answer.body
        assert [type(each["exception"]) for each in world.told] == [ZeroDivisionError]
        assert world.live.held == 0

    asyncio.run(tried())
