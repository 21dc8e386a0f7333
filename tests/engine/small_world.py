"""A small world for the engine: stages that write text, a store, and lives made of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlctl.digests import Json
from mlctl.engine.figures import Figure, Kind, Promise
from mlctl.engine.gates import Difference, Gate
from mlctl.engine.making import RunOptions
from mlctl.engine.plan import Life, Plan, Planner
from mlctl.engine.run import Runner
from mlctl.engine.sources import SourceLedger
from mlctl.engine.stage import Stage, Step, Work
from mlctl.engine.store import Artifact, Store
from mlctl.engine.verdict import Verdict
from mlctl.events import Event


def nothing(work: Work) -> None:
    """What most stages do beside writing."""


class Writing(Stage[Path]):
    """Writes `text.txt`: its text, then what its sources and its inputs say."""

    name = "writing"
    revision = 1

    def __init__(
        self,
        text: str = "",
        inputs: tuple[Step[Path], ...] = (),
        sources: tuple[Path, ...] = (),
        conditions: tuple[str, ...] = (),
        figures: tuple[Figure, ...] | None = None,
        also: Callable[[Work], None] = nothing,
        settings: Mapping[str, Json] | None = None,
    ) -> None:
        self._text = text
        self._inputs = inputs
        self._sources = sources
        self._conditions = conditions
        self._figures = figures
        self._settings: Mapping[str, Json] = settings or {"text": text}
        self.also = also

    def settings(self) -> Mapping[str, Json]:
        """The text, unless the test says otherwise."""
        return self._settings

    def inputs(self) -> Mapping[str, Step[Any]]:
        """Each under its own name."""
        return {step.name: step for step in self._inputs}

    def sources(self) -> tuple[Path, ...]:
        """The files that are copied."""
        return self._sources

    def promises(self) -> tuple[Promise, ...]:
        """The length of what is written."""
        return (Promise("length", Kind.SIZE),)

    def conditions(self) -> tuple[str, ...]:
        """Those that the test gave."""
        return self._conditions

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Write, and do what else the test wants."""
        parts = [self._text, *(source.read_text() for source in self._sources)]
        parts += [(work.artifact(step) / "text.txt").read_text() for step in self._inputs]
        (work.folder / "nested").mkdir()
        (work.folder / "nested" / "more.txt").write_text("more")
        (work.folder / "text.txt").write_text("|".join(parts))
        self.also(work)
        return self._figures or (Figure("length", Kind.SIZE, float(len("|".join(parts)))),)

    def open(self, folder: Path) -> Path:
        """The folder itself."""
        return folder


def step(name: str, *above: Step[Path], **options: Any) -> Step[Path]:
    """A step that writes its own name unless it is told another text."""
    return Step(name, Writing(**{"text": name, **options}, inputs=above))


def no_difference(gate: Gate, folders: Mapping[str, Path]) -> Difference | None:
    """A comparer for figures without samples."""
    return None


@dataclass
class World:
    """A store in a folder, and the events of its runs."""

    folder: Path
    events: list[Event] = field(default_factory=list)

    @property
    def store(self) -> Store:
        """The store, its folders made."""
        store = Store(self.folder / "store")
        store.prepare()
        return store

    def life(self, *steps: Step[Path], gates: tuple[str, ...] = ()) -> Life:
        """A recipe of these steps."""
        return Life("small", self.folder / "small.yaml", steps, tuple(Gate.of(gate) for gate in gates))

    def plan(self, life: Life, *forced: str) -> Plan:
        """What a new process would do."""
        planner = Planner(self.store, SourceLedger(self.store.ledger))
        return planner.plan(life, frozenset(each.name for each in life.steps), frozenset(forced))

    def reasons(self, life: Life, *forced: str) -> list[tuple[str, str, str]]:
        """Step, action and reasons, line by line."""
        plan = self.plan(life, *forced)
        return [(each.step.name, each.action.value, "; ".join(map(str, each.reasons))) for each in plan.steps]

    def carry_out(self, plan: Plan, *, keep_going: bool = False) -> Verdict:
        """What becomes of a plan."""
        options = RunOptions(keep_going=keep_going)
        return Runner(
            self.store, SourceLedger(self.store.ledger), options, tell=self.events.append, comparer=no_difference
        ).run(plan, "run")

    def run(self, life: Life, *forced: str, keep_going: bool = False) -> Verdict:
        """Plan, and carry it out."""
        return self.carry_out(self.plan(life, *forced), keep_going=keep_going)

    def made(self, life: Life, name: str) -> Artifact:
        """The artifact that the step comes to. It must be there."""
        found = {each.step.name: each.artifact for each in self.plan(life).steps}[name]
        assert found is not None
        return found


def outcomes(verdict: Verdict) -> list[tuple[str, str]]:
    """Step and outcome, line by line."""
    return [(each.step, each.outcome.value) for each in verdict.steps]
