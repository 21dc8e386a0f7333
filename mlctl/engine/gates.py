"""Gates: conditions on measured figures that must hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from mlctl.engine.expressions import Comparison, evaluate, parse
from mlctl.engine.figures import INCONCLUSIVE_EXIT_CODE, Figure, FigureName


class Outcome(StrEnum):
    """What became of a gate."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Gate:
    """A demand on figures; with `confidence`, the interval of the difference must decide it."""

    text: str
    comparison: Comparison
    confidence: float | None = None

    @classmethod
    def of(cls, text: str, confidence: float | None = None) -> "Gate":
        """The gate that `text` spells. Raises GateSyntaxError."""
        return cls(text, parse(text), confidence)


@dataclass(frozen=True)
class Difference:
    """The interval of left minus right, from results that were paired sample by sample."""

    low: float
    high: float
    confidence: float
    method: str
    samples: int
    p_value: float | None = None
    """Of McNemar's exact test, where two right/wrong rates are compared."""
    more_samples: int | None = None
    """How many more samples would decide, if the difference stays what it is; None if no number would."""


Compare: TypeAlias = Callable[[Gate], Difference | None]
"""Finds the paired difference of a gate's two sides; None where its figures have no per-sample results."""


@dataclass(frozen=True)
class GateResult:
    """A gate, both its sides as measured, and what became of it."""

    text: str
    outcome: Outcome
    exit_code: int
    """The code with which the command ends because of this gate; 0 unless it failed or is inconclusive."""
    left: float | None = None
    right: float | None = None
    difference: Difference | None = None
    confidence: float | None = None
    note: str = ""


def judge(gate: Gate, figures: Mapping[FigureName, Figure], compare: Compare) -> GateResult:
    """What becomes of `gate` when these figures were measured."""
    names = gate.comparison.figures
    missing = [name for name in names if name not in figures]
    if missing:
        note = f"{', '.join(map(str, missing))} was not measured"
        return GateResult(gate.text, Outcome.NOT_MEASURED, 0, confidence=gate.confidence, note=note)
    code = figures[names[0]].kind.exit_code
    values = {name: figures[name].value for name in names}
    try:
        left, right = (evaluate(side, values) for side in (gate.comparison.left, gate.comparison.right))
    except ZeroDivisionError:
        return GateResult(gate.text, Outcome.FAILED, code, confidence=gate.confidence, note="the gate divides by zero")
    difference = compare(gate)
    outcome, note = _decided(gate, left, right, difference)
    exit_code = {Outcome.FAILED: code, Outcome.INCONCLUSIVE: INCONCLUSIVE_EXIT_CODE}.get(outcome, 0)
    return GateResult(gate.text, outcome, exit_code, left, right, difference, gate.confidence, note)


def _decided(gate: Gate, left: float, right: float, difference: Difference | None) -> tuple[Outcome, str]:
    holds = gate.comparison.holds(left, right)
    if gate.confidence is None:
        return (Outcome.PASSED if holds else Outcome.FAILED), ""
    if difference is None:
        return Outcome.INCONCLUSIVE, "these figures have no per-sample results to compare"
    if gate.comparison.symbol in ("==", "!="):
        return Outcome.INCONCLUSIVE, "an interval cannot decide == or !=; write >= or <="
    holds_at_low, holds_at_high = (gate.comparison.holds(end, 0.0) for end in (difference.low, difference.high))
    if holds_at_low == holds_at_high:
        return (Outcome.PASSED if holds_at_low else Outcome.FAILED), ""
    more = difference.more_samples
    wanted = f"about {more:,} more samples would decide" if more else "no number of samples would decide"
    return Outcome.INCONCLUSIVE, wanted
