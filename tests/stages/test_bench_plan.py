"""What a bench is asked, and what it cannot do."""

from pathlib import Path

import pytest

from mlctl.engine.figures import FigureName
from mlctl.errors import UsageError
from mlctl.stages.bench_plan import BenchPlan, BenchSettings, Case, Measured, bench_plan

SETTINGS = BenchSettings((1, 8), (1,), 50, "onnxruntime", "cpu", 64)


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    """Two files and two folders; nothing is read of them before they are timed."""
    for name in ("small.onnx", "a b].onnx", "int8/model.onnx", "other/int8/model.onnx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return [tmp_path / name for name in ("small.onnx", "a b].onnx", "int8", "other/int8/model.onnx")]


def names(plan: BenchPlan) -> list[str]:
    return [name for name, _ in plan.models]


def test_models_are_named_after_files_or_folders_each_once(places: list[Path]) -> None:
    plan = bench_plan([*places, places[0]], SETTINGS, ())
    assert names(plan) == ["small", "a_b_", "int8", "int8-2", "small-2"]
    assert plan.models[2][1] == places[2] / "model.onnx"


def test_every_case_has_its_figures(places: list[Path]) -> None:
    plan = bench_plan([places[0], places[2]], SETTINGS, ())
    assert [str(name) for name in plan.figures][:4] == [
        "bench[small].p50_batch_1", "bench[small].p95_batch_1", "bench[small].p99_batch_1",
        "bench[small].throughput_batch_1",
    ]  # fmt: skip
    assert plan.figures[FigureName("bench", "int8", "speedup_batch_8")] == Measured("speedup", Case("int8", 8, 1))
    assert FigureName("bench", "small", "speedup_batch_8") not in plan.figures
    assert len(plan.figures) == 2 * 4 + 2 * 5


def test_several_thread_counts_stand_in_the_names(places: list[Path]) -> None:
    settings = BenchSettings((4,), (1, 2), 50, "onnxruntime", "cpu", 64)
    plan = bench_plan(
        places[:1], settings, ["bench[small].p50_batch_4_threads_2 <= bench[small].p50_batch_4_threads_1"]
    )
    assert plan.figures[FigureName("bench", "small", "p50_batch_4_threads_2")].case == Case("small", 4, 2)
    assert plan.gates[0].confidence == 0.95


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("bench[small].p50_batch_1", "it ends where a comparison"),
        ("bench[small].p50_batch_2 <= 1", "no bench[small].p50_batch_2 is measured; did you mean"),
        ("bench[large].p50_batch_1 <= 1", "no bench[large].p50_batch_1 is measured"),
        ("bench[small].speedup_batch_1 >= 1", "no bench[small].speedup_batch_1 is measured"),
        ("bench[small].p50_batch_1 == 1", "no interval can decide"),
        ("bench[small].p95_batch_1 <= 1", "50 rounds are too few for a p95"),
        ("bench[small].p99_batch_1 <= 1", "50 rounds are too few for a p99"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_refused_before_anything_runs(
    places: list[Path], gate: str, message: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        bench_plan(places[:1], SETTINGS, [gate])
    assert message in refusal.value.what
    assert repr(gate) in refusal.value.what
    assert refusal.value.next


def test_two_hundred_rounds_have_a_95th_percentile(places: list[Path]) -> None:
    settings = BenchSettings((1,), (1,), 200, "onnxruntime", "cpu", 64)
    assert bench_plan(places[:1], settings, ["bench[small].p95_batch_1 <= 1"]).gates


@pytest.mark.parametrize("settings", [((1, 1), (1,)), ((1,), (2, 2))])
def test_a_number_that_stands_twice_is_refused(
    places: list[Path], settings: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    with pytest.raises(UsageError, match="names one number twice"):
        bench_plan(places, BenchSettings(*settings, 50, "onnxruntime", "cpu", 64), ())


def test_what_is_no_onnx_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UsageError, match="only ONNX models are timed here"):
        bench_plan([tmp_path], SETTINGS, ())
