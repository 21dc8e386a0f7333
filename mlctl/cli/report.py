"""What a verdict's tables say, as text, whoever draws them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mlctl.engine.figures import Figure
from mlctl.engine.gates import GateResult, Outcome
from mlctl.engine.verdict import StepResult, Verdict
from mlctl.units import size_text

ABSENT = "–"
LEAST_WRITTEN_OUT, MOST_WRITTEN_OUT = 1e-3, 1e15
"""Numbers between which no power of ten is shown."""
BESIDE_FIRST = {"agreement": "agreement", "rms_apart": "apart (rms)", "faster_than_first": "times as fast"}
"""Figures of a comparison with the first model, and their headings."""


@dataclass(frozen=True)
class ModelTable:
    """One row per model that was evaluated, and what has to be said below them."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class GateRow:
    """One gate, in words."""

    outcome: Outcome
    gate: str
    values: str
    note: str


def model_tables(verdict: Verdict) -> tuple[ModelTable, ...]:
    """A table for every evaluation, in the order of the recipe."""
    evaluations = [step for step in verdict.steps if step.stage in ("eval", "compare") and step.figures]
    parities = {step.step: figure_named(step.figures, "parity") for step in verdict.steps}
    return tuple(_model_table(evaluation, parities) for evaluation in evaluations)


def _model_table(evaluation: StepResult, parities: Mapping[str, Figure | None]) -> ModelTable:
    models = tuple(dict.fromkeys(figure.model for figure in evaluation.figures if figure.model))
    main = next(figure for figure in evaluation.figures if figure.main)
    rows = next(figure for figure in evaluation.figures if figure.figure.endswith("_rows"))
    columns = _columns(evaluation, main.figure)
    # A comparison has no parities: its models need not come from one another.
    has_parity = evaluation.stage == "eval"
    return ModelTable(
        title=f"{evaluation.step}: {rows.value:,.0f} rows of the {rows.figure.removesuffix('_rows')} split",
        headings=("model", *(_heading(name, main) for name in columns), *(["parity"] if has_parity else []), "runtime"),
        rows=tuple(
            (
                model,
                *(_cell(figure_named(evaluation.figures, name, model), name) for name in columns),
                *([_cell(parities.get(model))] if has_parity else []),
                _runtime(evaluation.choices, model),
            )
            for model in models
        ),
        notes=tuple(text for key, text in evaluation.choices.items() if key.startswith("slower[")),
    )


def _runtime(choices: Mapping[str, str], model: str) -> str:
    return choices.get(f"runtime[{model}]", ABSENT).partition(" ")[0]


def _columns(evaluation: StepResult, main: str) -> tuple[str, ...]:
    others = dict.fromkeys(figure.figure for figure in evaluation.figures)
    latencies = tuple(name for name in others if name.startswith("p50_"))
    beside_first = tuple(name for name in BESIDE_FIRST if name in others)
    return (main, "difference", *beside_first, "bytes", "parameters", *latencies)


def _heading(name: str, main: Figure) -> str:
    if name == main.figure:
        return f"{name} ({main.confidence:.0%} interval)" if main.confidence else name
    if name.startswith("p50_batch_"):
        return f"p50 batch {name.removeprefix('p50_batch_')}"
    return {"difference": "vs first", "bytes": "size", **BESIDE_FIRST}.get(name, name)


def figure_named(figures: tuple[Figure, ...], name: str, model: str | None = None) -> Figure | None:
    """The figure of that name, of a model or of the step itself; None where it was not measured."""
    return next((each for each in figures if each.figure == name and each.model == model), None)


def _cell(figure: Figure | None, name: str = "") -> str:
    if figure is None:
        return ABSENT
    text = value_text(figure)
    if figure.low is None or figure.high is None:
        return text
    if name == "difference":
        return f"{signed_text(figure.value)} [{signed_text(figure.low)}, {signed_text(figure.high)}]"
    return f"{text} [{number_text(figure.low)}, {number_text(figure.high)}]"


def value_text(figure: Figure) -> str:
    """A figure's value with its unit."""
    if figure.unit == "bytes":
        return size_text(figure.value)
    if figure.unit == "ms":
        return f"{figure.value:.3f} ms"
    return number_text(figure.value)


def number_text(value: float) -> str:
    """A number with five digits at most that matter: `0.9852`, `57.123`, `157,002`, `3.1e-05`."""
    if not math.isfinite(value) or abs(value) >= MOST_WRITTEN_OUT:
        return f"{value:.3g}"
    if value == round(value):
        return f"{value:z,.0f}"
    return f"{value:,.{_decimals(value)}f}" if abs(value) >= LEAST_WRITTEN_OUT else f"{value:.3g}"


def signed_text(value: float) -> str:
    """A difference with its sign, which 0 has none of: `+0.0123`, `-57.123`, `0.0000`."""
    if not math.isfinite(value) or abs(value) >= MOST_WRITTEN_OUT:
        return f"{value:+.3g}"
    text = f"{value:+z,.{_decimals(value)}f}"
    return text if text.strip("+0.") else text.removeprefix("+")


def _decimals(value: float) -> int:
    """Four, or fewer where more digits stand before the point; none from 1,000 on."""
    magnitude = int(f"{value:.4e}".partition("e")[2])
    return 0 if magnitude >= 3 else min(4, 4 - magnitude)


def step_lines(verdict: Verdict) -> tuple[str, ...]:
    """One line per step with what it measured of its own result; figures of several models need a table."""
    width = max((len(step.step) for step in verdict.steps), default=0)
    own = {step.step: [each for each in step.figures if each.model is None] for step in verdict.steps}
    return tuple(
        f"{step:<{width}}  " + "  ".join(f"{each.figure} {value_text(each)}" for each in figures)
        for step, figures in own.items()
        if figures
    )


def gate_rows(verdict: Verdict) -> tuple[GateRow, ...]:
    """Every gate that was judged; those whose figures were not wanted by this command are left out."""
    return tuple(_gate_row(gate) for gate in verdict.gates if gate.outcome is not Outcome.NOT_MEASURED)


def _gate_row(gate: GateResult) -> GateRow:
    values = ""
    if gate.left is not None and gate.right is not None:
        values = f"{number_text(gate.left)} against {number_text(gate.right)}"
    notes = [gate.note] if gate.note else []
    if gate.difference:
        found = gate.difference
        notes.insert(
            0,
            f"difference [{signed_text(found.low)}, {signed_text(found.high)}] at {found.confidence:.0%}"
            + (f", McNemar p {found.p_value:.3g}" if found.p_value is not None else ""),
        )
    return GateRow(gate.outcome, gate.text, values, "; ".join(notes))
