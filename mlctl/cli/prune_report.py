"""What a pruning took out and what that cost, as text, whoever draws it."""

from collections.abc import Iterator

from mlctl.cli.report import ABSENT, ModelTable, figure_named, value_text
from mlctl.engine.verdict import StepResult, Verdict

STATES = {"before": "before", "cut": "as cut", None: "now"}
LEFT, WHOLE = "left[", "whole["


def pruning_tables(verdict: Verdict) -> tuple[ModelTable, ...]:
    """For every pruning the network before, as cut and now; layer by layer too where that is what was asked for."""
    steps = [step for step in verdict.steps if step.stage == "prune" and step.figures]
    return tuple(table for step in steps for table in _tables(step, with_layers=verdict.command == "prune"))


def _tables(step: StepResult, *, with_layers: bool) -> Iterator[ModelTable]:
    names = tuple(dict.fromkeys(each.figure for each in step.figures if each.model == "before"))
    rows = tuple((shown, *(_cell(step, name, state) for name in names)) for state, shown in STATES.items())
    headings = ("network", *(_heading(name) for name in names))
    notes = tuple(text for key, text in step.choices.items() if key == "slower")
    yield ModelTable(step.step, headings, rows, () if with_layers else notes)
    if with_layers:
        left = tuple((key[len(LEFT) : -1], text) for key, text in step.choices.items() if key.startswith(LEFT))
        whole = tuple((key[len(WHOLE) : -1], why) for key, why in step.choices.items() if key.startswith(WHOLE))
        reasons = tuple((layer, f"all of it: {why}") for layer, why in whole)
        yield ModelTable(f"{step.step}: what is left", ("layer", "left"), (*left, *reasons), notes)


def _heading(name: str) -> str:
    return {"p50_batch_1": "p50 batch 1", "bytes": "size"}.get(name, name.removeprefix("validation_"))


def _cell(step: StepResult, name: str, state: str | None) -> str:
    found = figure_named(step.figures, name, state)
    return ABSENT if found is None else value_text(found)
