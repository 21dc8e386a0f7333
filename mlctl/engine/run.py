"""Carries out a plan and ends in one verdict."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from mlctl import __version__
from mlctl.engine.failures import system_refusals
from mlctl.engine.figures import Figure, FigureName
from mlctl.engine.gates import Difference, Gate, GateResult, judge
from mlctl.engine.gates import Outcome as GateOutcome
from mlctl.engine.making import Maker, RunOptions
from mlctl.engine.memory import GateMemory
from mlctl.engine.plan import Action, Life, Plan, PlannedStep
from mlctl.engine.sources import SourceLedger
from mlctl.engine.store import Artifact, Store
from mlctl.engine.verdict import Failure, Outcome, StepResult, Verdict
from mlctl.errors import ArtifactDamaged, Interrupted, MlctlError, Refusal
from mlctl.events import StepAborted, StepFinished, StepReused, StepSkipped, StepStarted, Tell

Comparer: TypeAlias = Callable[[Gate, Mapping[str, Path]], Difference | None]
"""Finds a gate's paired difference in the folders of the steps that it names."""


@dataclass
class _Progress:
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    results: list[StepResult] = field(default_factory=list)
    gates: list[GateResult] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    left_out: frozenset[str] = frozenset()
    """Steps that are another process's alone."""
    is_stopped: bool = False

    @property
    def figures(self) -> dict[FigureName, Figure]:
        return {each.name(result.step): each for result in self.results for each in result.figures}


class Runner:
    """Runs plans into a store."""

    def __init__(
        self,
        store: Store,
        ledger: SourceLedger,
        options: RunOptions,
        *,
        tell: Tell,
        comparer: Comparer,
        interruption: Callable[[], Interrupted | None] = lambda: None,
    ) -> None:
        """`interruption` gives what a signal asks for that has come and was not answered yet."""
        self._store = store
        self._ledger = ledger
        self._options = options
        self._tell = tell
        self._interruption = interruption
        self._maker = Maker(store, ledger, options, tell)
        self._memory = GateMemory(store.root / "gates", comparer)

    def run(self, plan: Plan, command: str) -> Verdict:
        """Make what the plan says is missing, judge the gates, and say what became of it all.

        A step that fails, or whose own gate fails, stops the run; with `keep_going` only what needs it is left out.
        """
        self._ledger.save()
        progress = _Progress()
        if self._options.company.is_follower:
            progress.left_out = frozenset(step.step.name for step in plan.steps) - plan.followed
        for planned in plan.steps:
            self._advance(plan, planned, progress)
        for gate in plan.life.gates if not self._options.company.is_follower else ():
            progress.gates.append(self._judge(gate, progress))
        return Verdict(
            mlctl=__version__,
            command=command,
            recipe=str(plan.life.recipe),
            steps=tuple(progress.results),
            gates=tuple(progress.gates),
            failures=tuple(progress.failures),
        )

    def _advance(self, plan: Plan, planned: PlannedStep, progress: _Progress) -> None:
        inputs = {each.name: progress.artifacts.get(each.name) for each in planned.step.stage.inputs().values()}
        present = {name: artifact for name, artifact in inputs.items() if artifact}
        if progress.is_stopped or len(present) < len(inputs) or planned.step.name in progress.left_out:
            self._tell(StepSkipped(planned.step.name))
            progress.results.append(_result(planned, Outcome.SKIPPED))
            return
        try:
            with system_refusals(self._store.root):
                if planned.step.stage.is_shared_work and self._options.company.is_follower:
                    self._follow(plan, planned, present, progress)
                    return
                artifact, result = self._carried_out(plan.life, planned, present)
                self._store.link(plan.life.name, planned.step.name, planned.fingerprint)
        except (MlctlError, Interrupted) as failure:
            # A library may have taken a signal for a failure of its own.
            error = self._options.company.blamed(self._interruption() or failure)
            say_what_is_kept(error, self._store, (planned,))
            self._tell(StepAborted(planned.step.name, error.what))
            progress.failures.append(Failure.of(error, planned.step.name))
            progress.results.append(_result(planned, Outcome.FAILED))
            progress.is_stopped = not self._options.keep_going or isinstance(error, Interrupted)
            return
        progress.results.append(result)
        self._judge_own_gates(planned, artifact, progress)

    def _carried_out(
        self, life: Life, planned: PlannedStep, inputs: Mapping[str, Artifact]
    ) -> tuple[Artifact, StepResult]:
        name = planned.step.name
        if planned.damage:
            raise planned.damage
        # An input may have been made again by this very run.
        planned = planned.over({role: inputs[step.name] for role, step in planned.step.stage.inputs().items()})
        if planned.action is Action.REUSE and planned.artifact:
            self._maker.agree(planned, Outcome.REUSED)
            self._tell(StepReused(name))
            self._store.tidy(planned.fingerprint)
            return planned.artifact, _result(planned, Outcome.REUSED, planned.artifact)
        self._tell(StepStarted(name, planned.action.value, tuple(map(str, planned.reasons))))
        artifact, outcome = self._maker.make(life, planned, inputs)
        if outcome is Outcome.REUSED:
            self._tell(StepReused(name))
            return artifact, _result(planned, outcome, artifact)
        seconds = artifact.manifest.made.seconds
        self._tell(StepFinished(name, seconds))
        return artifact, replace(_result(planned, outcome, artifact), seconds=seconds)

    def _follow(self, plan: Plan, planned: PlannedStep, inputs: Mapping[str, Artifact], progress: _Progress) -> None:
        outcome = self._maker.follow(plan.life, planned, inputs)
        readers = (step.step.stage.inputs().values() for step in plan.steps if step.step.name in plan.followed)
        if any(planned.step.name == each.name for read in readers for each in read):
            progress.artifacts[planned.step.name] = self._maker.published(planned)
        progress.results.append(_result(planned, outcome))

    def _judge_own_gates(self, planned: PlannedStep, artifact: Artifact, progress: _Progress) -> None:
        name = planned.step.name
        own = [self._judge(Gate.of(f"{name}.{condition}"), progress) for condition in planned.step.stage.conditions()]
        progress.gates.extend(own)
        if all(gate.exit_code == 0 for gate in own):
            progress.artifacts[name] = artifact
        elif not self._options.keep_going:
            progress.is_stopped = True

    def _judge(self, gate: Gate, progress: _Progress) -> GateResult:
        artifacts = {
            name.step: progress.artifacts[name.step]
            for name in gate.comparison.figures
            if name.step in progress.artifacts
        }
        try:
            return judge(gate, progress.figures, lambda each: self._memory.difference(each, artifacts))
        except ArtifactDamaged as error:
            progress.failures.extend({Failure.of(error)} - {*progress.failures})
            return GateResult(gate.text, GateOutcome.NOT_MEASURED, 0, confidence=gate.confidence, note=error.what)


def say_what_is_kept(error: Refusal, store: Store, steps: Iterable[PlannedStep]) -> None:
    """Let an interrupt say that the same command goes on where it stopped, if one of the steps has what that takes."""
    is_kept = any(not step.is_forced and store.can_resume(step.fingerprint) for step in steps)
    if isinstance(error, Interrupted) and is_kept:
        error.next = error.next_where_kept


def _result(planned: PlannedStep, outcome: Outcome, artifact: Artifact | None = None) -> StepResult:
    return StepResult(
        step=planned.step.name,
        stage=planned.step.stage.name,
        outcome=outcome,
        fingerprint=planned.fingerprint,
        folder=str(artifact.folder) if artifact else None,
        seconds=0.0,
        reasons=tuple(map(str, planned.reasons)),
        figures=artifact.manifest.figures if artifact else (),
        choices=artifact.manifest.made.choices if artifact else {},
    )
