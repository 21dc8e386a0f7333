"""Which versions take requests while a shelf changes, loads take their time, and some versions are wrong."""

import asyncio
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlctl.errors import StepFailed
from mlctl.events import Event, Note, Warned
from mlctl.runtime.running import Port
from mlctl.serving.catalogue import Entry
from mlctl.serving.inference import Inference
from mlctl.serving.models import Models
from mlctl.serving.natural.inputs import natural_for
from mlctl.serving.natural.values import Natural
from mlctl.serving.refusals import NotReady, Unknown
from mlctl.serving.shelf import FileVersion, OneFile, Version
from mlctl.serving.signature import Meaning, Signature
from mlctl.serving.telemetry.bugs import tell_bugs
from mlctl.serving.telemetry.statistics import ModelStatistics

PORTS = (Port("x", "float32", (None, 2)),)


@dataclass(eq=False)
class Loaded:
    """A version that says whether it was retired, and waits for leave before it is."""

    signature: Signature
    natural: Natural
    statistics: ModelStatistics = field(default_factory=ModelStatistics)
    timeout_seconds: float = 1.0
    queue: int = 1
    is_retired: bool = False
    fails: bool = False
    may_go: asyncio.Event = field(default_factory=asyncio.Event)

    def hold(self) -> Callable[[], None]:
        return lambda: None

    def submit(self, inference: Inference) -> None:
        raise AssertionError("nobody asks it")

    async def retire(self) -> None:
        if self.fails:
            raise RuntimeError("it does not end")
        await self.may_go.wait()
        self.is_retired = True


@dataclass
class Shelves:
    """Versions and labels in memory, and who is wrong."""

    numbers: dict[str, list[int]]
    pointed: dict[str, dict[str, int]] = field(default_factory=dict)
    wrong: set[int] = field(default_factory=set)
    refusals: list[tuple[str, int, str]] = field(default_factory=list)
    loaded: dict[tuple[str, int], Loaded] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(name for name, numbers in self.numbers.items() if numbers))

    def versions(self, name: str) -> tuple[int, ...]:
        return tuple(self.numbers.get(name, ()))

    def labels(self, name: str) -> Mapping[str, int]:
        return self.pointed.get(name, {})

    def live_version(self, name: str) -> int | None:
        return self.labels(name).get("production", max(self.versions(name), default=None))

    def stamp(self, name: str) -> Hashable:
        return self.versions(name), tuple(sorted(self.labels(name).items()))

    def open_version(self, name: str, version: int) -> Version:
        return FileVersion(name, version, Path("model.onnx"))

    def record_refusal(self, name: str, version: int, why: str) -> None:
        self.refusals.append((name, version, why))

    def load(self, version: Version) -> Loaded:
        if version.number in self.wrong:
            raise StepFailed("golden request 1 of 16: it is off")
        signature = Signature(version.name, version.number, "onnxruntime", PORTS, PORTS, Meaning())
        self.loaded[version.name, version.number] = Loaded(signature, natural_for(signature))
        return self.loaded[version.name, version.number]


class World:
    """Models over shelves, and what was told of them."""

    def __init__(self, shelves: Shelves) -> None:
        self.told: list[Event] = []
        self.shelves = shelves
        self.models = Models(shelves, shelves.load, self.told.append)

    async def look(self) -> None:
        await self.models._look()
        await asyncio.sleep(0)

    def live(self, name: str = "m") -> int:
        return self.models.find(name).signature.version


def world(**numbers: list[int]) -> World:
    return World(Shelves(dict(numbers)))


def test_the_newest_version_is_live_until_a_label_says_otherwise() -> None:
    async def tried() -> None:
        it = world(m=[1, 2, 3])
        await it.models.start()
        assert it.live() == 3
        assert [each.signature.version for each in it.models.live()] == [3]
        it.shelves.pointed["m"] = {"production": 2, "canary": 3}
        await it.look()
        assert it.live() == 2
        assert it.models.find("m", label="canary").signature.version == 3
        assert it.models.find("m", version="3").signature.version == 3
        assert it.told[-1] == Note("m version 2 takes requests in place of 3")

    asyncio.run(tried())


def test_the_old_version_is_let_go_only_after_what_it_accepted() -> None:
    async def tried() -> None:
        it = world(m=[1])
        await it.models.start()
        old = it.shelves.loaded["m", 1]
        it.shelves.numbers["m"] = [1, 2]
        await it.look()
        assert it.live() == 2
        assert not old.is_retired
        old.may_go.set()
        await asyncio.sleep(0.01)
        assert old.is_retired

    asyncio.run(tried())


def test_a_version_that_is_wrong_changes_nothing_and_everybody_hears_why() -> None:
    async def tried() -> None:
        it = world(m=[1])
        await it.models.start()
        it.shelves.wrong.add(2)
        it.shelves.numbers["m"] = [1, 2]
        await it.look()
        assert it.live() == 1
        assert it.models.is_ready
        assert it.shelves.refusals == [("m", 2, "golden request 1 of 16: it is off")]
        assert Warned("m version 2 is refused: golden request 1 of 16: it is off; version 1 stays") in it.told
        assert it.models.entries("m") == (
            Entry("m", 1, "ready"),
            Entry("m", 2, "unavailable", "golden request 1 of 16: it is off", is_refused=True),
        )
        # The same refusal is not tried again every second.
        await it.look()
        assert len(it.shelves.refusals) == 1
        with pytest.raises(NotReady):
            it.models.find("m", version="2")
        it.shelves.wrong.clear()
        it.shelves.numbers["m"] = [1, 2, 3]
        await it.look()
        assert it.live() == 3

    asyncio.run(tried())


def test_a_label_stays_where_it_was_while_its_new_version_is_wrong() -> None:
    async def tried() -> None:
        it = world(m=[1, 2])
        it.shelves.pointed["m"] = {"production": 1, "canary": 1}
        await it.models.start()
        it.shelves.wrong.add(2)
        it.shelves.pointed["m"] = {"production": 1, "canary": 2}
        await it.look()
        assert it.models.find("m", label="canary").signature.version == 1
        with pytest.raises(Unknown, match="no label 'blue'"):
            it.models.find("m", label="blue")

    asyncio.run(tried())


def test_a_server_does_not_start_with_a_model_that_is_wrong() -> None:
    async def tried() -> None:
        it = world(m=[1])
        it.shelves.wrong.add(1)
        with pytest.raises(StepFailed, match="it is off"):
            await it.models.start()

    asyncio.run(tried())


def test_models_come_and_go_with_the_shelf() -> None:
    async def tried() -> None:
        it = world(m=[1])
        await it.models.start()
        it.shelves.numbers["other"] = [4]
        await it.look()
        assert it.live("other") == 4
        it.shelves.numbers["m"] = []
        await it.look()
        with pytest.raises(Unknown, match="there is no model 'm'; there are other"):
            it.models.find("m")
        assert it.told[-2:] == [
            Warned("m, whose version 1 was live, is not in the repository any more"),
            Note("m version 1 takes no more requests"),
        ]
        await it.look()
        assert sum(isinstance(each, Warned) for each in it.told) == 1

    asyncio.run(tried())


def test_a_version_that_nothing_points_to_any_more_leaves_with_a_word() -> None:
    async def tried() -> None:
        it = world(m=[1])
        await it.models.start()
        it.shelves.numbers["m"] = [1, 2]
        await it.look()
        assert it.told[-2:] == [
            Note("m version 2 takes requests in place of 1"),
            Note("m version 1 takes no more requests"),
        ]

    asyncio.run(tried())


def test_a_server_stays_ready_whatever_becomes_of_other_models_later() -> None:
    async def tried() -> None:
        it = world(m=[1])
        readiness = [it.models.is_ready]
        await it.models.start()
        readiness.append(it.models.is_ready)
        it.shelves.wrong.add(4)
        it.shelves.numbers["other"] = [4]
        await it.look()
        assert [each.is_refused for each in it.models.entries("other")] == [True]
        readiness.append(it.models.is_ready)
        it.shelves.numbers["fine"] = [5]
        await it.look()
        it.shelves.numbers["m"] = []
        await it.look()
        assert [each.signature.name for each in it.models.live()] == ["fine"]
        readiness.append(it.models.is_ready)
        assert readiness == [False, True, True, True]

    asyncio.run(tried())


def test_a_server_without_a_model_that_takes_requests_is_not_ready() -> None:
    async def tried() -> None:
        it = world()
        await it.models.start()
        readiness = [it.models.is_ready]
        it.shelves.numbers["m"] = [1]
        await it.look()
        readiness.append(it.models.is_ready)
        it.shelves.loaded["m", 1].may_go.set()
        await it.models.unload("m")
        readiness.append(it.models.is_ready)
        await it.models.load("m")
        readiness.append(it.models.is_ready)
        assert readiness == [False, True, False, True]

    asyncio.run(tried())


def test_a_number_that_no_version_has_is_not_said_to_be_none() -> None:
    async def tried() -> None:
        it = world(m=[1])
        await it.models.start()
        with pytest.raises(Unknown, match=f"'m' has no version {'9' * 26}$"):
            it.models.find("m", version="9" * 26)

    asyncio.run(tried())


@pytest.mark.parametrize("version", ["0x1", "-1", "1.0", "", "one", "9" * 30, "\u0661"])
def test_what_is_no_version_is_unknown(version: str) -> None:
    async def tried() -> None:
        it = world(m=[1])
        await it.models.start()
        with pytest.raises(Unknown):
            it.models.find("m", version=version)

    asyncio.run(tried())


def test_a_version_is_loaded_and_let_go_on_demand() -> None:
    async def tried() -> None:
        it = world(m=[1, 2])
        await it.models.start()
        with pytest.raises(NotReady, match="'m' version 1 is not loaded"):
            it.models.find("m", version="1")
        await it.models.load("m", "1")
        assert it.models.find("m", version="1").signature.version == 1
        # What was asked for stays, whatever the shelf does.
        it.shelves.numbers["m"] = [1, 2, 3]
        await it.look()
        assert it.models.find("m", version="1").signature.version == 1
        for each in it.shelves.loaded.values():
            each.may_go.set()
        await it.models.unload("m", "1")
        with pytest.raises(NotReady, match="'m' version 1 is not loaded"):
            it.models.find("m", version="1")
        await it.models.unload("m")
        with pytest.raises(NotReady):
            it.models.find("m")
        await it.models.load("m")
        assert it.live() == 3

    asyncio.run(tried())


def test_what_cannot_be_loaded_on_demand_says_why() -> None:
    async def tried() -> None:
        it = world(m=[1, 2])
        await it.models.start()
        it.shelves.wrong.add(1)
        with pytest.raises(NotReady, match="'m' version 1 was not loaded: golden request 1"):
            await it.models.load("m", "1")
        with pytest.raises(Unknown, match="'m' has no version 7"):
            await it.models.load("m", "7")
        with pytest.raises(Unknown, match="there is no model 'nobody'"):
            await it.models.load("nobody")
        assert it.models.names == ("m",)
        assert it.models.is_ready

    asyncio.run(tried())


def test_loading_a_live_version_again_takes_the_place_of_the_old_one() -> None:
    async def tried() -> None:
        it = world(m=[1])
        await it.models.start()
        before = it.models.find("m")
        await it.models.load("m", "1")
        assert it.models.find("m") is not before
        it.shelves.wrong.add(1)
        now = it.models.find("m")
        with pytest.raises(NotReady):
            await it.models.load("m", "1")
        assert it.models.find("m") is now

    asyncio.run(tried())


def test_a_server_that_ends_is_not_ready_and_still_answers() -> None:
    async def tried() -> None:
        it = world(m=[1])
        await it.models.start()
        readiness = [it.models.is_ready]
        it.models.end()
        readiness.append(it.models.is_ready)
        assert readiness == [True, False]
        assert it.live() == 1

    asyncio.run(tried())


def test_a_bug_in_one_look_is_told_once_and_ends_neither_the_following_nor_that_of_other_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mlctl.serving.models.WATCH_SECONDS", 0.01)
    looks: list[str] = []

    async def tried() -> None:
        it = world(a=[1], b=[1])
        await it.models.start()
        stamp = it.shelves.stamp
        known: dict[str, Hashable] = {}

        def broken(name: str) -> Hashable:
            looks.append(name)
            return known["a stamp"] if name == "a" else stamp(name)

        monkeypatch.setattr(it.shelves, "stamp", broken)
        watching = asyncio.create_task(it.models.watch())
        it.shelves.numbers.update(a=[1, 2], b=[1, 2])
        await until(lambda: it.live("b") == 2 and looks.count("a") > 3)
        assert it.live("a") == 1
        (warned,) = [each.text for each in it.told if isinstance(each, Warned)]
        assert warned.startswith(
            "the repository cannot be followed now, and what is live stays: "
            "a bug in the server: KeyError: 'a stamp' (rounds.py:"
        )
        assert "in broken)" in warned
        monkeypatch.setattr(it.shelves, "stamp", stamp)
        await until(lambda: it.live("a") == 2)
        # After a look without it, the same is news.
        monkeypatch.setattr(it.shelves, "stamp", broken)
        await until(lambda: sum(isinstance(each, Warned) for each in it.told) == 2)
        assert not watching.done()
        watching.cancel()

    asyncio.run(tried())


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that must happen within seconds."""
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)


def test_a_version_that_cannot_be_retired_is_told_of_at_once() -> None:
    async def tried() -> None:
        it = world(m=[1])
        tell_bugs(asyncio.get_running_loop(), it.told.append)
        await it.models.start()
        it.shelves.loaded["m", 1].fails = True
        it.shelves.numbers["m"] = [1, 2]
        await it.look()
        await until(lambda: any(isinstance(each, Warned) for each in it.told))
        (warned,) = [each.text for each in it.told if isinstance(each, Warned)]
        assert "RuntimeError: it does not end (models.py:" in warned
        assert it.live() == 2

    asyncio.run(tried())


def test_a_file_is_a_shelf_with_one_version() -> None:
    shelf = OneFile("m", Path("m.onnx"))
    assert (shelf.names(), shelf.versions("m"), shelf.versions("n")) == (("m",), (1,), ())
    assert shelf.open_version("m", 1).graph == Path("m.onnx")
    with pytest.raises(Unknown):
        shelf.open_version("m", 2)
