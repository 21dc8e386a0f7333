"""The table of a bench at every width: no number is ever broken or cut off."""

from pathlib import Path

import pytest

from mlctl.cli import bench_view
from mlctl.engine.figures import Figure, Kind
from mlctl.engine.verdict import Outcome, StepResult, Verdict
from mlctl.stages.bench_plan import SPEEDUP, BenchPlan, BenchSettings, bench_plan

UNITS = {"throughput": "rows/s", SPEEDUP: "times"}


@pytest.fixture
def plan(tmp_path: Path) -> BenchPlan:
    for name in ("first.onnx", "second.onnx"):
        (tmp_path / name).touch()
    settings = BenchSettings((1, 32), (1,), 50, "onnxruntime", "cpu", 64)
    return bench_plan([tmp_path / "first.onnx", tmp_path / "second.onnx"], settings, ())


def verdict(plan: BenchPlan) -> Verdict:
    figures = tuple(
        Figure(
            name.figure, Kind.LATENCY, 1234567.0, UNITS.get(measured.kind, "ms"), name.model,
            low=1222222.0, high=1244444.0, confidence=0.95,
        )
        for name, measured in plan.figures.items()
    )  # fmt: skip
    choices = {"inputs[first]": "the test split", "noise[second].speedup_batch_1": "second against first: too noisy"}
    return Verdict("0", "bench", None, (StepResult("bench", "bench", Outcome.RAN, "", None, 1, (), figures, choices),))


@pytest.mark.parametrize("columns", [40, 80, 95, 120, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_no_number_is_broken_at_any_width(
    plan: BenchPlan,
    columns: int,
    terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(bench_view, "is_terminal", lambda stream: terminal)
    bench_view.show_bench(plan, verdict(plan))
    words = capsys.readouterr().out.split()
    assert words.count("1,234,567") == 4
    assert words.count("1234567.000") == 12
    assert words.count("1234567.00") == 2
    assert words.count("1,244,444]") == 4 + 4 + 2
    assert {"rows/s", "first"} <= {word.removesuffix(":") for word in words}
    assert "inputs[first]: the test split" in " ".join(words)
