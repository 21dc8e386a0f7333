"""A plan, and what its steps came to, on stdout."""

import json
import sys
from dataclasses import asdict
from typing import Any

from mlctl.cli.report import value_text
from mlctl.digests import jsonable
from mlctl.engine.plan import Plan, PlannedStep
from mlctl.units import plural


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """One line per step: what a run would do, and why."""
    if as_json:
        _print_json([_summary(step) for step in plan.steps])
        return
    width = max((len(step.step.name) for step in plan.steps), default=0)
    for step in plan.steps:
        why = "; ".join(map(str, step.reasons))
        sys.stdout.write(f"{step.step.name:<{width}}  {step.action:<7}{why}".rstrip() + "\n")


def show_artifacts(plan: Plan, *, as_json: bool) -> None:
    """For every step its artifact's folder, what it measured, and on what."""
    if as_json:
        _print_json([{**_summary(step), **_lineage(step)} for step in plan.steps])
        return
    for step in plan.steps:
        if step.artifact is None:
            sys.stdout.write(f"{step.step.name}: not made yet\n")
            continue
        made = step.artifact.manifest.made
        sys.stdout.write(f"{step.step.name}: {step.artifact.folder}\n")
        sys.stdout.write(f"  made {made.started} on {made.host}, {plural(made.threads, 'thread')}\n")
        for name, choice in made.choices.items():
            sys.stdout.write(f"  chosen {name}: {choice}\n")
        for figure in step.artifact.manifest.figures:
            sys.stdout.write(f"  {figure.name(step.step.name)} = {value_text(figure)}\n")


def _summary(step: PlannedStep) -> dict[str, Any]:
    return {
        "step": step.step.name,
        "stage": step.step.stage.name,
        "action": step.action,
        "reasons": [str(reason) for reason in step.reasons],
        "fingerprint": step.fingerprint,
    }


def _lineage(step: PlannedStep) -> dict[str, Any]:
    if step.artifact is None:
        return {"folder": None, "manifest": None}
    return {"folder": str(step.artifact.folder), "manifest": asdict(step.artifact.manifest)}


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(jsonable(value), indent=2, ensure_ascii=False) + "\n")
