"""What would be reused, run or resumed, and why."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from mlctl.engine.fingerprint import Identity
from mlctl.engine.gates import Gate
from mlctl.engine.reasons import Damaged, Forced, InputRemade, Missing, New, Reason, Unfinished, differences
from mlctl.engine.sources import SourceLedger
from mlctl.engine.stage import Step
from mlctl.engine.store import Artifact, Store
from mlctl.errors import ArtifactDamaged, UsageError


@dataclass(frozen=True)
class Life:
    """A recipe as the engine sees it: steps in order, and the gates at the end."""

    name: str
    recipe: Path
    steps: tuple[Step[Any], ...]
    gates: tuple[Gate, ...] = ()

    def step(self, name: str) -> Step[Any]:
        """The step of that name. Raises UsageError."""
        for step in self.steps:
            if step.name == name:
                return step
        names = ", ".join(step.name for step in self.steps)
        raise UsageError(f"the recipe has no step {name!r}", where=self.recipe, next=f"its steps are: {names}")

    def closure(self, names: Iterable[str]) -> frozenset[str]:
        """These steps and everything that they need."""
        needed: set[str] = set()
        waiting = [self.step(name) for name in names]
        while waiting:
            step = waiting.pop()
            if step.name not in needed:
                needed.add(step.name)
                waiting.extend(step.stage.inputs().values())
        return frozenset(needed)


class Action(StrEnum):
    """What a run does with a step."""

    REUSE = "reuse"
    RUN = "run"
    RESUME = "resume"


@dataclass(frozen=True)
class PlannedStep:
    """A step, the artifact that it comes to, and why that is to be made."""

    step: Step[Any]
    identity: Identity
    fingerprint: str
    action: Action
    reasons: tuple[Reason, ...]
    artifact: Artifact | None
    damage: ArtifactDamaged | None = None

    @property
    def is_forced(self) -> bool:
        """Whether the step is made again whatever is there."""
        return Forced() in self.reasons

    def over(self, inputs: Mapping[str, Artifact]) -> "PlannedStep":
        """The same step, to be run where its artifact was made from other bytes of `inputs` (by role)."""
        remade = self.artifact.remade_inputs(inputs) if self.artifact and self.action is Action.REUSE else ()
        return replace(self, action=Action.RUN, reasons=tuple(map(InputRemade, remade))) if remade else self


@dataclass(frozen=True)
class Plan:
    """Every wanted step in the order of the recipe."""

    life: Life
    steps: tuple[PlannedStep, ...]

    @property
    def shares_work(self) -> bool:
        """Whether there is a step that several processes would work on together."""
        return any(step.step.stage.is_shared_work for step in self.steps)

    @property
    def followed(self) -> frozenset[str]:
        """The steps that a process which follows has a part in: the shared ones, and all that they need."""
        return self.life.closure(step.step.name for step in self.steps if step.step.stage.is_shared_work)

    @property
    def importing(self) -> tuple[str, ...]:
        """The steps to be made that import code which the recipe names, their own or that of what they read."""
        own = {step.step.name for step in self.steps if step.step.stage.imports_code}
        making = (step.step.name for step in self.steps if step.action is not Action.REUSE)
        return tuple(name for name in making if self.life.closure([name]) & own)


class Planner:
    """Compares what is wanted with what is in the store."""

    def __init__(self, store: Store, ledger: SourceLedger) -> None:
        self._store = store
        self._ledger = ledger

    def plan(self, life: Life, wanted: frozenset[str], forced: frozenset[str] = frozenset()) -> Plan:
        """The plan for the `wanted` steps; `forced` ones are made again whatever is there."""
        planned: dict[str, PlannedStep] = {}
        for step in life.steps:
            if step.name in wanted:
                identity = self._identity(step, life.recipe.parent, planned)
                found = self._planned(life, step, identity, step.name in forced)
                planned[step.name] = _with_remade_inputs(found, planned)
        self._ledger.save()
        return Plan(life, tuple(planned.values()))

    def _identity(self, step: Step[Any], base: Path, planned: Mapping[str, "PlannedStep"]) -> Identity:
        stage = step.stage
        return Identity(
            stage=stage.name,
            revision=stage.revision,
            settings=stage.settings(),
            inputs={role: planned[each.name].fingerprint for role, each in stage.inputs().items()},
            sources=tuple(self._ledger.look(file, base) for file in stage.sources()),
        )

    def _planned(self, life: Life, step: Step[Any], identity: Identity, is_forced: bool) -> PlannedStep:
        fingerprint = identity.fingerprint
        artifact, damage = self._found(fingerprint)
        if is_forced:
            return PlannedStep(step, identity, fingerprint, Action.RUN, (Forced(),), artifact)
        if damage:
            reason = Damaged(f"damaged: {damage.where} {damage.what}")
            return PlannedStep(step, identity, fingerprint, Action.RUN, (reason,), None, damage)
        if artifact:
            return PlannedStep(step, identity, fingerprint, Action.REUSE, (), artifact)
        reasons = self._reasons(life, step, identity)
        if self._store.can_resume(fingerprint):
            why = (*(reason for reason in reasons if reason != New()), Unfinished())
            return PlannedStep(step, identity, fingerprint, Action.RESUME, why, None)
        return PlannedStep(step, identity, fingerprint, Action.RUN, reasons, None)

    def _found(self, fingerprint: str) -> tuple[Artifact | None, ArtifactDamaged | None]:
        try:
            artifact = self._store.find(fingerprint)
            if artifact:
                artifact.check_sizes()
        except ArtifactDamaged as error:
            return None, error
        return artifact, None

    def _reasons(self, life: Life, step: Step[Any], identity: Identity) -> tuple[Reason, ...]:
        last = self._store.last_manifest(life.name, step.name)
        if last is None:
            return (Missing(),) if self._store.was_made(life.name, step.name) else (New(),)
        return differences(step.name, last.identity, identity) or (Missing(),)


def _with_remade_inputs(found: PlannedStep, planned: Mapping[str, PlannedStep]) -> PlannedStep:
    inputs = {role: planned[step.name] for role, step in found.step.stage.inputs().items()}
    made = {role: each.artifact for role, each in inputs.items() if each.artifact and each.action is Action.REUSE}
    return found.over(made)
