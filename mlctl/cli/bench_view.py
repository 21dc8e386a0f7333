"""A bench on the command line: run it, and show its table on stdout."""

import sys
from collections.abc import Iterator
from pathlib import Path

from mlctl import __version__
from mlctl.cli.figure_rows import show_rows
from mlctl.cli.interrupts import raising_interrupts
from mlctl.cli.output import Output, is_terminal
from mlctl.cli.report import number_text
from mlctl.cli.tables import stdout_console
from mlctl.engine.figures import Figure, FigureName
from mlctl.engine.plan import Life
from mlctl.engine.verdict import Failure, StepResult, Verdict
from mlctl.errors import Interrupted
from mlctl.stages.bench_plan import SPEEDUP, STEP, BenchPlan, Case

HEADINGS = ("model", "batch", "threads", "p50 (95% interval)", "p95", "p99", "rows/s", "vs first")


def run_bench(plan: BenchPlan, data: Path | None, output: Output) -> Verdict:
    """Carry the bench out, telling `output`."""
    from mlctl.stages.benching import bench

    try:
        with raising_interrupts() as interrupts, output.telling(Life(STEP, Path(), ())) as tell:
            return bench(plan, data, interrupts.told(tell))
    except Interrupted as error:
        return Verdict(__version__, STEP, recipe=None, failures=(Failure.of(error),))


def show_bench(plan: BenchPlan, verdict: Verdict) -> None:
    """One row per model, batch size and thread count; below, what they ran on and were fed with, and all doubts."""
    for result in verdict.steps:
        _show_rows(list(_rows(plan, result)))
        for key, text in result.choices.items():
            sys.stdout.write(f"{text}\n" if key.startswith("noise[") else f"{key}: {text}\n")


def _rows(plan: BenchPlan, result: StepResult) -> Iterator[tuple[str, ...]]:
    figures = {figure.name(STEP): figure for figure in result.figures}
    cases: dict[Case, dict[str, FigureName]] = {}
    for name, measured in plan.figures.items():
        cases.setdefault(measured.case, {})[measured.kind] = name
    for case, names in cases.items():
        found = {kind: figures[name] for kind, name in names.items()}
        yield (
            case.model,
            str(case.batch),
            str(case.threads),
            f"{found['p50'].value:.3f} ms {_interval(found['p50'])}",
            f"{found['p95'].value:.3f} ms",
            f"{found['p99'].value:.3f} ms",
            f"{found['throughput'].value:,.0f} {_interval(found['throughput'])}",
            f"{found[SPEEDUP].value:.2f} {_interval(found[SPEEDUP])}" if SPEEDUP in found else "1",
        )


def _interval(figure: Figure) -> str:
    assert figure.low is not None
    assert figure.high is not None
    if figure.unit == "rows/s":
        return f"[{figure.low:,.0f}, {figure.high:,.0f}]"
    return f"[{number_text(figure.low)}, {number_text(figure.high)}]"


def _show_rows(rows: list[tuple[str, ...]]) -> None:
    columns = list(zip(HEADINGS, *rows, strict=True))
    if not is_terminal(sys.stdout):
        widths = [max(map(len, column)) for column in columns]
        for line in (HEADINGS, *rows):
            text = "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
            sys.stdout.write(text.rstrip() + "\n")
        return
    show_rows(stdout_console(), HEADINGS, rows)
