"""What timed rounds come to: figures with intervals, and how gates on them are decided."""

from collections.abc import Iterator, Mapping
from math import inf
from typing import Final

from mlctl.engine.expressions import evaluate
from mlctl.engine.figures import Direction, Figure, Kind
from mlctl.engine.gates import Difference, Gate
from mlctl.metrics.block_resampling import mean_of, percentile_of, round_replicates
from mlctl.metrics.intervals import percentile_interval, replicate_interval, samples_to_decide
from mlctl.metrics.resampling import Floats
from mlctl.runtime.latency import summary
from mlctl.stages.bench_plan import CONFIDENCE, SPEEDUP, BenchPlan, Case, Measured

WIDEST_RATIO: Final = 0.2
"""A ratio whose interval is wider than this share of it says too little to choose a model by."""
_SEED: Final = 0
_UNITS: Final[dict[str, tuple[str, Direction]]] = {
    "p50": ("ms", "lower"),
    "p95": ("ms", "lower"),
    "p99": ("ms", "lower"),
    "throughput": ("rows/s", "higher"),
    "speedup": ("times", "higher"),
}


class Timings:
    """The seconds of every round of every case, float64 [rounds]; in one round every case was called once."""

    def __init__(self, plan: BenchPlan, seconds: Mapping[Case, Floats]) -> None:
        self._plan = plan
        self._seconds = seconds
        self._first = plan.models[0][0]

    def figures(self) -> Iterator[Figure]:
        """Percentiles in ms, throughput in rows/s, and how many times faster than the first model, with intervals."""
        for name, measured in self._plan.figures.items():
            interval = percentile_interval(self._replicates(measured), CONFIDENCE)
            unit, better = _UNITS[measured.kind]
            yield Figure(
                name.figure,
                Kind.LATENCY,
                self._value(measured),
                unit,
                name.model,
                better,
                low=interval.low,
                high=interval.high,
                confidence=CONFIDENCE,
                main=measured.kind == "p50",
            )

    def difference(self, gate: Gate) -> Difference:
        """The interval of the gate's left side minus its right, from the same rounds drawn again for both."""
        confidence = gate.confidence or CONFIDENCE
        rounds = self._plan.settings.rounds
        values = {name: self._replicates(self._plan.figures[name]) for name in gate.comparison.figures}
        sides = gate.comparison.left, gate.comparison.right
        found = replicate_interval(lambda: evaluate(sides[0], values) - evaluate(sides[1], values), confidence)
        if found is None:
            return Difference(-inf, inf, confidence, "block-bootstrap", rounds)
        interval, estimate = found
        more = samples_to_decide(interval, estimate, rounds) or None
        return Difference(interval.low, interval.high, confidence, "block-bootstrap", rounds, more_samples=more)

    def _value(self, measured: Measured) -> float:
        case, seconds = measured.case, self._seconds[measured.case]
        if measured.kind == "throughput":
            return case.batch / float(seconds.mean())
        found = summary(seconds)
        if measured.kind == SPEEDUP:
            return summary(self._seconds[self._reference(case)]).p50 / found.p50
        return {"p50": found.p50, "p95": found.p95, "p99": found.p99}[measured.kind]

    def _replicates(self, measured: Measured) -> Floats:
        case = measured.case
        if measured.kind == "throughput":
            return case.batch / round_replicates(self._seconds[case], mean_of, seed=_SEED)
        if measured.kind == SPEEDUP:
            return self._percentiles(self._reference(case), 50) / self._percentiles(case, 50)
        return 1000 * self._percentiles(case, float(measured.kind[1:]))

    def _percentiles(self, case: Case, percentile: float) -> Floats:
        return round_replicates(self._seconds[case], percentile_of(percentile), seed=_SEED)

    def _reference(self, case: Case) -> Case:
        return Case(self._first, case.batch, case.threads)


def doubt(speedup: Figure) -> str:
    """Why a ratio decides nothing on this machine; an empty text where it does."""
    assert speedup.low is not None
    assert speedup.high is not None
    if speedup.high - speedup.low > WIDEST_RATIO * speedup.value:
        return f"this machine is too noisy to tell (the ratio's interval is wider than {WIDEST_RATIO:.0%} of it)"
    if speedup.low <= 1 <= speedup.high:
        return "no difference can be told (the ratio's interval holds 1)"
    return ""
