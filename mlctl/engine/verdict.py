"""What a command ends in: steps, figures, gates, and the exit code."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from mlctl.digests import jsonable
from mlctl.engine.figures import Figure
from mlctl.engine.gates import GateResult
from mlctl.errors import RecipeError, Refusal


class Outcome(StrEnum):
    """What became of a step."""

    REUSED = "reused"
    RAN = "ran"
    RESUMED = "resumed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class StepResult:
    """One step, and the artifact that it came to."""

    step: str
    stage: str
    outcome: Outcome
    fingerprint: str
    folder: str | None
    seconds: float
    """Spent by this command; 0 for a step that was reused."""
    reasons: tuple[str, ...]
    figures: tuple[Figure, ...]
    choices: Mapping[str, str] = field(default_factory=dict)
    """What the stage chose by itself, and why, as its manifest says."""


@dataclass(frozen=True)
class Failure:
    """Why a command could not do what was asked."""

    kind: str
    what: str
    where: str | None
    next: str
    exit_code: int
    step: str | None = None
    problems: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, error: Refusal, step: str | None = None) -> "Failure":
        """The failure that `error` describes."""
        problems = tuple(asdict(each) for each in error.problems) if isinstance(error, RecipeError) else ()
        return cls(type(error).__name__, error.what, error.where, error.next, error.exit_code, step, problems)


@dataclass(frozen=True)
class Verdict:
    """One verdict for one command."""

    mlctl: str
    command: str
    recipe: str | None
    steps: tuple[StepResult, ...] = ()
    gates: tuple[GateResult, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def exit_code(self) -> int:
        """That of the first failure; else of the first failed gate; else of the first inconclusive one; else 0."""
        codes = [failure.exit_code for failure in self.failures]
        codes += sorted((gate.exit_code for gate in self.gates if gate.exit_code), key=lambda code: code == 25)
        return codes[0] if codes else 0

    def to_json(self) -> dict[str, Any]:
        """The documented JSON form; numbers that are not finite are spelled as texts."""
        verdict: dict[str, Any] = jsonable(self._plain())
        return verdict

    def _plain(self) -> dict[str, Any]:
        return {
            "mlctl": self.mlctl,
            "command": self.command,
            "recipe": self.recipe,
            "exit_code": self.exit_code,
            "passed": self.exit_code == 0,
            "steps": [asdict(step) for step in self.steps],
            "gates": [asdict(gate) for gate in self.gates],
            "failures": [asdict(failure) for failure in self.failures],
        }


@dataclass(frozen=True)
class FollowersVerdict(Verdict):
    """The verdict of a process that another one speaks for."""

    is_told: bool = True
    """Whether the other one knows of its failures; else they are this process's to tell."""
