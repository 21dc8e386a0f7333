"""What a comparison tensor by tensor says, as text and as JSON."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from mlctl.graphs.tensor_parity import TensorDifference, TensorParity
from mlctl.stages.tracing import SPLIT, Trace
from mlctl.units import plural

MOST_LOSSES = 3
"""Nodes that are named for what they lose; `--all` has the others."""

HEADINGS = ("tensor", "operator", "module", "absolute", "relative", "signal/noise", "lost", "rounding")


def trace_json(found: Trace, *, is_complete: bool) -> dict[str, Any]:
    """Plain values; `tensors` only where all are asked for."""
    parity = found.parity
    return {
        "a": str(found.a.named),
        "b": str(found.b.named),
        "data": str(found.data),
        "rows": parity.rows,
        "tolerance": parity.tolerance,
        "compared": len(parity.tensors),
        "unmatched": parity.unmatched,
        "worst": parity.worst,
        "first": asdict(parity.first) if parity.first else None,
        "costliest": asdict(parity.costliest),
        "outputs": [asdict(each) for each in parity.outputs],
        "optimized_a": parity.optimized_a,
        "optimized_b": parity.optimized_b,
        **({"tensors": [asdict(each) for each in parity.tensors]} if is_complete else {}),
    }


def trace_lines(found: Trace, *, is_complete: bool) -> Iterator[str]:
    """For people: what was compared, where it begins to differ, what that does to the answers, and what loses most."""
    parity = found.parity
    yield f"A  {found.a.named} ({found.a.framework})"
    yield f"B  {found.b.named} ({found.b.framework})"
    counts = f"{plural(len(parity.tensors), 'tensor')} of B compared, {parity.unmatched:,} not in A"
    yield f"{plural(parity.rows, 'row')} of the {SPLIT} split, {counts}"
    if is_complete:
        yield from _table(parity.tensors)
    yield from _first(parity) if parity.first else (f"no tensor differs beyond {parity.tolerance:g}",)
    yield from _optimizations(parity)


def _first(parity: TensorParity) -> Iterator[str]:
    first = parity.first
    assert first
    yield f"the first tensor that differs beyond {parity.tolerance:g}: {first.name}"
    yield f"  module      {first.module or 'the outermost, or unknown'}"
    yield f"  node        {first.node} ({first.operator})"
    if first.weights:
        yield f"  weights     {', '.join(first.weights)}"
    yield f"  difference  {_differences(first)}"
    for each in parity.outputs:
        yield f"  answers     {each.name}: {_differences(each)}"
    losing = sorted(parity.tensors, key=lambda each: -each.loss)[:MOST_LOSSES]
    for each in losing:
        if each.loss > 0:
            where = f", module {each.module}" if each.module else ""
            yield f"  loses       {each.loss:.1f} dB at {each.node} ({each.operator}{where})"


def _optimizations(parity: TensorParity) -> Iterator[str]:
    for form, moved in (("A", parity.optimized_a), ("B", parity.optimized_b)):
        if moved is not None and moved > parity.tolerance:
            yield (
                f"ONNX Runtime's own graph optimizations move the answers of {form} by {moved:.3g}; "
                "the tensors above are those of the graph as it is written"
            )


def _differences(each: TensorDifference) -> str:
    rounding = "" if each.rounding is None else f", rounded {_decibels(each.rounding)}"
    return (
        f"absolute {each.max_absolute:.3g}, relative {each.max_relative:.3g}, "
        f"signal to noise {_decibels(each.signal_to_noise)}{rounding}"
    )


def _decibels(ratio: float) -> str:
    return "exact" if ratio == math.inf else f"{ratio:.1f} dB"


def _table(tensors: tuple[TensorDifference, ...]) -> Iterator[str]:
    rows = [HEADINGS, *(_cells(each) for each in tensors)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cells(each: TensorDifference) -> tuple[str, ...]:
    return (
        each.name,
        each.operator,
        each.module or "–",
        f"{each.max_absolute:.3g}",
        f"{each.max_relative:.3g}",
        _decibels(each.signal_to_noise),
        f"{each.loss:.1f} dB",
        "–" if each.rounding is None else _decibels(each.rounding),
    )
