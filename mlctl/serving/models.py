"""The models of a server: which versions take requests, and how one takes the place of another."""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, TypeVarTuple

from mlctl.errors import MlctlError
from mlctl.events import Note, Tell, Warned
from mlctl.runtime.freed_memory import give_back
from mlctl.serving.catalogue import Entry, Live
from mlctl.serving.refusals import NotReady, Unknown
from mlctl.serving.rounds import Rounds
from mlctl.serving.shelf import Shelf, Version, version_number

T = TypeVar("T")
Given = TypeVarTuple("Given")

WATCH_SECONDS = 1.0


class Retiring(Live, Protocol):
    """A version that takes requests, until it is let go."""

    async def retire(self) -> None:
        """Finish what was accepted, and let memory go."""


@dataclass(frozen=True)
class _Seen:
    """What the shelf holds of one model."""

    stamp: Hashable = None
    versions: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    wanted: int | None = None
    """The version that is to answer where nobody asks for another."""


@dataclass(eq=False)
class _Model:
    """One name. Only the event loop changes it, one change at a time."""

    name: str
    seen: _Seen = field(default_factory=_Seen)
    loaded: dict[int, Retiring] = field(default_factory=dict)
    live: int | None = None
    """The version that answers where nobody asks for another: the last one that was wanted and was right."""
    labels: dict[str, int] = field(default_factory=dict)
    """For each label the last version it pointed to that was right."""
    asked: set[int] = field(default_factory=set)
    unloaded: set[int] = field(default_factory=set)
    """Versions that were loaded, or let go, by a request and not by the shelf."""
    refused: dict[int, MlctlError] = field(default_factory=dict)
    loading: set[int] = field(default_factory=set)
    change: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def needed(self) -> set[int]:
        """Versions that should take requests."""
        pointed = {*self.seen.labels.values(), *self.asked}
        if self.seen.wanted is not None:
            pointed.add(self.seen.wanted)
        return (pointed & set(self.seen.versions)) - self.unloaded


class Models:
    """A Catalogue that follows a shelf: a new version is loaded beside the old, and takes its place once it is right.

    What was accepted by the old one is finished by it. A version that cannot be loaded, or whose answers are wrong, is
    refused, and the old one stays.
    """

    def __init__(self, shelf: Shelf, load: Callable[[Version], Retiring], tell: Tell) -> None:
        """`load` loads and proves one version, in a thread of its own; it raises MlctlError."""
        self._shelf = shelf
        self._load = load
        self._tell = tell
        self._models: dict[str, _Model] = {}
        self._looks = Rounds(tell, "the repository cannot be followed now, and what is live stays")
        self._farewells: set[asyncio.Task[None]] = set()
        self._is_open = False
        # One alone: memory that a version had is taken by the next, where each thread would have some of its own.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlctl-models")

    @property
    def is_ready(self) -> bool:
        """Whether the server has begun and does not end, and has a model that takes requests."""
        return self._is_open and any(each.loaded for each in self._models.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Of all models."""
        return tuple(sorted(self._models))

    def live(self) -> tuple[Live, ...]:
        """Every version that takes requests, by name and number."""
        return tuple(each.loaded[number] for _, each in sorted(self._models.items()) for number in sorted(each.loaded))

    def find(self, name: str, version: str | None = None, label: str | None = None) -> Live:
        """The version that is asked for. Raises Unknown and NotReady."""
        model = self._model(name)
        number = model.live
        if version is not None:
            number = version_number(name, version)
        elif label is not None:
            number = model.labels.get(label, model.seen.labels.get(label))
            if number is None:
                raise Unknown(f"the model {name!r} has no label {label!r}")
        found = None if number is None else model.loaded.get(number)
        if found is None:
            raise self._absence(model, number)
        return found

    def entries(self, name: str | None = None) -> tuple[Entry, ...]:
        """All versions of all models, or of one."""
        models = [self._model(name)] if name is not None else [each for _, each in sorted(self._models.items())]
        return tuple(
            self._entry(model, number) for model in models for number in sorted({*model.seen.versions, *model.loaded})
        )

    async def start(self) -> None:
        """Load what the shelf wants to be live. Raises MlctlError where a model has nothing that can be."""
        for name in await self._aside(self._shelf.names):
            model = self._models.setdefault(name, _Model(name))
            await self._follow(model)
            wanted = model.seen.wanted
            if model.live is None and wanted in model.refused:
                raise model.refused[wanted]
        self._is_open = True

    async def watch(self) -> None:
        """Follow the shelf, until this is cancelled; what goes wrong at one look is told."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self._look()

    async def load(self, name: str, version: str | None = None) -> None:
        """Load a version, also one that is there already. Raises Unknown, and NotReady with the reason."""
        model = self._models.setdefault(name, _Model(name))
        async with model.change:
            model.seen = await self._aside(self._see, name)
            number = model.seen.wanted if version is None else version_number(name, version)
            if not model.seen.versions and not model.loaded:
                self._models.pop(name, None)
                raise Unknown(f"there is no model {name!r}; there are {', '.join(self.names) or 'none'}")
            if number is None or number not in model.seen.versions:
                raise Unknown(f"the model {name!r} has no version {version}")
            model.unloaded.discard(number)
            model.asked.add(number)
            await self._take_in(model, number)
            self._settle(model)
        if refusal := model.refused.get(number):
            raise NotReady(f"{name!r} version {number} was not loaded: {refusal.what}")

    async def unload(self, name: str, version: str | None = None) -> None:
        """Let a version, or all, take no more requests, and wait until those that were accepted are answered."""
        model = self._model(name)
        async with model.change:
            numbers = set(model.loaded) if version is None else {version_number(name, version)}
            if not numbers <= set(model.loaded):
                raise Unknown(f"{name!r} version {version} is not loaded")
            model.unloaded |= numbers
            model.asked -= numbers
            if model.live in numbers:
                model.live = None
            leaving = {number: self._let_go([model.loaded.pop(number)]) for number in sorted(numbers)}
        for number, farewells in leaving.items():
            await asyncio.gather(*farewells)
            self._tell(Note(f"{name} version {number} was unloaded"))

    def end(self) -> None:
        """Say that the server is not ready any more; what still comes is answered."""
        self._is_open = False

    async def drain(self) -> None:
        """Finish what was accepted, and let go all versions."""
        self.end()
        leaving = [each for model in self._models.values() for each in model.loaded.values()]
        await asyncio.gather(*(each.retire() for each in leaving), *self._farewells)

    async def _look(self) -> None:
        names = await self._looks.attempt(self._aside(self._shelf.names))
        if names is not None:
            for name in names:
                await self._looks.attempt(self._look_at(name))
            for model in [each for each in self._models.values() if each.name not in names]:
                await self._looks.attempt(self._follow_gone(model))
        self._looks.end()

    async def _look_at(self, name: str) -> None:
        model = self._models.setdefault(name, _Model(name))
        if await self._aside(self._shelf.stamp, name) != model.seen.stamp:
            await self._follow(model)

    async def _follow_gone(self, model: _Model) -> None:
        await self._follow(model)
        if not model.loaded:
            # A request to load it may have found meanwhile that there is no such model.
            self._models.pop(model.name, None)

    async def _follow(self, model: _Model) -> None:
        """Load what the shelf wants now, and let go what it does not."""
        async with model.change:
            model.seen = await self._aside(self._see, model.name)
            model.refused.clear()
            model.unloaded &= set(model.seen.versions)
            order = sorted(model.needed - set(model.loaded), key=lambda each: each != model.seen.wanted)
            for number in order:
                await self._take_in(model, number)
            self._settle(model)

    def _see(self, name: str) -> _Seen:
        # The stamp first: what changes meanwhile is seen at the next look.
        stamp, versions = self._shelf.stamp(name), self._shelf.versions(name)
        wanted = self._shelf.live_version(name) if versions else None
        return _Seen(stamp, versions, dict(self._shelf.labels(name)), wanted)

    async def _aside(self, work: Callable[[*Given], T], *given: *Given) -> T:
        """The result of something that reads the disk or computes, while the loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)

    async def _take_in(self, model: _Model, number: int) -> None:
        """Load one version; it takes the place of the same one where that is there."""
        model.loading.add(number)
        try:
            loaded = await self._aside(lambda: self._load(self._shelf.open_version(model.name, number)))
        except MlctlError as error:
            model.refused[number] = error
            stays = f"; version {model.live} stays" if model.live is not None else ""
            self._tell(Warned(f"{model.name} version {number} is refused: {error.what}{stays}"))
            with suppress(OSError):
                await self._aside(self._shelf.record_refusal, model.name, number, error.what)
            return
        finally:
            model.loading.discard(number)
        model.refused.pop(number, None)
        if before := model.loaded.get(number):
            self._let_go([before])
        model.loaded[number] = loaded

    def _settle(self, model: _Model) -> None:
        """Point to what is loaded now, and let go what nothing points to any more."""
        wanted = model.seen.wanted
        if wanted in model.loaded and wanted != model.live:
            place = f" in place of {model.live}" if model.live is not None else ""
            self._tell(Note(f"{model.name} version {wanted} takes requests{place}"))
            model.live = wanted
        elif model.live is not None and not model.seen.versions:
            self._tell(Warned(f"{model.name}, whose version {model.live} was live, is not in the repository any more"))
            model.live = None
        model.labels = {
            label: number if number in model.loaded else model.labels.get(label, number)
            for label, number in model.seen.labels.items()
        }
        stay = {*model.needed, *model.labels.values(), model.live}
        for number in sorted(set(model.loaded) - stay):
            self._tell(Note(f"{model.name} version {number} takes no more requests"))
            self._let_go([model.loaded.pop(number)])

    def _let_go(self, leaving: Iterable[Retiring]) -> list[asyncio.Task[None]]:
        """Begin to retire versions; the tasks, which are kept until they are done."""
        farewells = [asyncio.get_running_loop().create_task(self._retired(each)) for each in leaving]
        for task in farewells:
            self._farewells.add(task)
            task.add_done_callback(self._farewells.discard)
        return farewells

    async def _retired(self, leaving: Retiring) -> None:
        await leaving.retire()
        del leaving
        await self._aside(give_back)

    def _model(self, name: str) -> _Model:
        model = self._models.get(name)
        if model is None:
            raise Unknown(f"there is no model {name!r}; there are {', '.join(self.names) or 'none'}")
        return model

    def _absence(self, model: _Model, number: int | None) -> Unknown | NotReady:
        if number is not None and number not in model.seen.versions:
            return Unknown(f"the model {model.name!r} has no version {number}")
        what = f"{model.name!r} version {number}" if number is not None else f"{model.name!r}"
        return NotReady(f"{what} is not loaded", retry_after=1.0 if number in model.loading else None)

    def _entry(self, model: _Model, number: int) -> Entry:
        if number in model.loading and number not in model.loaded:
            return Entry(model.name, number, "loading")
        if number in model.loaded:
            return Entry(model.name, number, "ready")
        refusal = model.refused.get(number)
        reason = refusal.what if refusal else "unloaded" if number in model.unloaded else "not loaded"
        return Entry(model.name, number, "unavailable", reason, is_refused=refusal is not None)
