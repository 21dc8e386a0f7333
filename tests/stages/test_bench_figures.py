"""Timed rounds become figures with intervals, and decide gates or do not."""

from pathlib import Path

import numpy as np
import pytest

from mlctl.engine.figures import Figure, Kind
from mlctl.engine.gates import GateResult, Outcome, judge
from mlctl.metrics.resampling import Floats
from mlctl.stages.bench_figures import Timings, doubt
from mlctl.stages.bench_plan import BenchSettings, Case, bench_plan

ROUNDS = 400
SETTINGS = BenchSettings((4,), (1,), ROUNDS, "onnxruntime", "cpu", 64)


def drifting(base: float, noise: float, seed: int) -> Floats:
    """Seconds around `base` on a machine that becomes half as fast in the second half of the rounds."""
    drift = np.repeat([1.0, 2.0], ROUNDS // 2)
    return base * drift * (1 + noise * np.abs(np.random.default_rng(seed).standard_normal(ROUNDS)))


def timings(
    folder: Path, first: Floats, second: Floats, gates: tuple[str, ...] = ()
) -> tuple[Timings, list[GateResult]]:
    for name in ("a", "b"):
        (folder / f"{name}.onnx").touch()
    plan = bench_plan([folder / "a.onnx", folder / "b.onnx"], SETTINGS, gates)
    found = Timings(plan, {Case("a", 4, 1): first, Case("b", 4, 1): second})
    figures = {figure.name("bench"): figure for figure in found.figures()}
    return found, [judge(gate, figures, found.difference) for gate in plan.gates]


def named(found: Timings) -> dict[tuple[str | None, str], Figure]:
    return {(figure.model, figure.figure): figure for figure in found.figures()}


def test_figures_are_what_numpy_says(tmp_path: Path) -> None:
    first, second = drifting(0.002, 0.1, 1), drifting(0.001, 0.1, 2)
    figures = named(timings(tmp_path, first, second)[0])
    for percentile in (50, 95, 99):
        figure = figures["b", f"p{percentile}_batch_4"]
        assert figure.value == pytest.approx(1000 * np.percentile(second, percentile))
        assert figure.unit == "ms"
    throughput = figures["a", "throughput_batch_4"]
    assert throughput.value == pytest.approx(4 * ROUNDS / first.sum())
    assert throughput.unit == "rows/s"
    assert figures["b", "speedup_batch_4"].value == pytest.approx(np.median(first) / np.median(second))
    assert ("a", "speedup_batch_4") not in figures
    for figure in figures.values():
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high
        assert figure.kind is Kind.LATENCY


def test_a_drift_that_both_meet_leaves_their_ratio_alone(tmp_path: Path) -> None:
    figures = named(timings(tmp_path, drifting(0.002, 0.01, 1), drifting(0.001, 0.01, 2))[0])
    ratio, alone = figures["b", "speedup_batch_4"], figures["b", "p50_batch_4"]
    assert ratio.low is not None
    assert ratio.high is not None
    assert alone.low is not None
    assert alone.high is not None
    # The p50 of two equal halves lies anywhere between them; both models' lie at the same place.
    assert (alone.high - alone.low) / alone.value > 0.3
    assert (ratio.high - ratio.low) / ratio.value < 0.1
    assert doubt(ratio) == ""


GATES = (
    "bench[b].p50_batch_4 <= bench[a].p50_batch_4",
    "bench[b].speedup_batch_4 >= 1.8",
    "bench[b].speedup_batch_4 >= 2.5",
    "bench[b].throughput_batch_4 >= 1.5 * bench[a].throughput_batch_4",
    "bench[b].p50_batch_4 / 0 <= 1",
)


def test_gates_are_decided_by_the_paired_interval(tmp_path: Path) -> None:
    _, results = timings(tmp_path, drifting(0.002, 0.01, 1), drifting(0.001, 0.01, 2), GATES)
    outcomes = [(each.outcome, each.exit_code) for each in results]
    assert outcomes == [
        (Outcome.PASSED, 0), (Outcome.PASSED, 0), (Outcome.FAILED, 22), (Outcome.PASSED, 0), (Outcome.FAILED, 22),
    ]  # fmt: skip
    assert results[0].difference is not None
    assert (results[0].difference.samples, results[0].difference.method) == (ROUNDS, "block-bootstrap")


def test_equals_are_not_told_apart(tmp_path: Path) -> None:
    equal = drifting(0.001, 0.1, 1), drifting(0.001, 0.1, 2)
    found, results = timings(tmp_path, *equal, GATES[:1])
    assert (results[0].outcome, results[0].exit_code) == (Outcome.INCONCLUSIVE, 25)
    assert doubt(named(found)["b", "speedup_batch_4"]) == "no difference can be told (the ratio's interval holds 1)"


def test_a_wide_interval_is_a_doubt(tmp_path: Path) -> None:
    figure = Figure("speedup_batch_4", Kind.LATENCY, 2.0, low=1.7, high=2.3)
    assert doubt(figure) == ("this machine is too noisy to tell (the ratio's interval is wider than 20% of it)")
    assert doubt(Figure("speedup_batch_4", Kind.LATENCY, 2.0, low=1.9, high=2.1)) == ""
