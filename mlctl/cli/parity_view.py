"""A comparison of two models tensor by tensor, on stdout, and the verdict that it ends in."""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

from mlctl import __version__
from mlctl.cli.output import Output
from mlctl.cli.session import default_threads
from mlctl.digests import jsonable
from mlctl.engine.figures import Kind
from mlctl.engine.gates import GateResult, Outcome
from mlctl.engine.verdict import Verdict
from mlctl.errors import UsageError
from mlctl.stages.forms import form, prepared_for

COMMAND = "debug parity"


@dataclass(frozen=True)
class Comparison:
    """What is to be compared: two models, on `rows` rows of the prepared data, or of that which they were made from."""

    a: Path
    b: Path
    data: Path | None
    rows: int
    tolerance: float
    allows_code: bool


def show_parity(wanted: Comparison, *, is_complete: bool, as_json: bool) -> int:
    """Compare, print what was found and the verdict, and return its exit code: 21 where the two differ."""
    if not math.isfinite(wanted.tolerance):
        raise UsageError(f"{wanted.tolerance} is no tolerance", next="write a number of 0 or more, such as 1e-4")
    forms = form(wanted.a), form(wanted.b)
    data = wanted.data or prepared_for(forms)
    # What cannot be compared is refused before torch is loaded.
    from mlctl.stages.trace_report import trace_json, trace_lines
    from mlctl.stages.tracing import TraceSettings, trace

    settings = TraceSettings(wanted.rows, wanted.tolerance, default_threads(), wanted.allows_code)
    found = trace(*forms, data, settings)
    verdict = _verdict(found.parity.worst, wanted.tolerance)
    if as_json:
        document = {**verdict.to_json(), "parity": jsonable(trace_json(found, is_complete=is_complete))}
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        return verdict.exit_code
    for line in trace_lines(found, is_complete=is_complete):
        sys.stdout.write(line + "\n")
    return Output().finish(verdict)


def _verdict(worst: float, tolerance: float) -> Verdict:
    """One gate, over the largest difference of any tensor."""
    is_within = worst <= tolerance
    gate = GateResult(
        text=f"parity <= {tolerance!r}",
        outcome=Outcome.PASSED if is_within else Outcome.FAILED,
        exit_code=0 if is_within else Kind.PARITY.exit_code,
        left=worst,
        right=tolerance,
    )
    return Verdict(__version__, COMMAND, recipe=None, gates=(gate,))
