"""A learning-rate range test on the terminal: a curve of plain characters, and the suggestion."""

import sys
from collections.abc import Iterator
from math import log10

from mlctl.cli.tables import stdout_console
from mlctl.stages.range_tests import RateCurve

ROWS = 14
MOST_COLUMNS = 100
LEAST_COLUMNS = 24
LABEL = 9
"""Characters of a loss at the axis, the blank after it included."""


def show_curves(curves: tuple[RateCurve, ...]) -> None:
    """Write every curve to stdout, as wide as the terminal or COLUMNS, in characters that stdout can write."""
    width = stdout_console().width
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    for curve in curves:
        sys.stdout.writelines(f"{line}\n" for line in curve_lines(curve, width, is_unicode=is_unicode))
        sys.stdout.write(f"{curve.advice}\ncurve: {curve.image}\n")


def curve_lines(curve: RateCurve, width: int, *, is_unicode: bool) -> Iterator[str]:
    """The smoothed loss over the rates; a dashed column stands at the suggestion."""
    dot, bar, edge, corner, floor = "•╎│└─" if is_unicode else "*:|+-"
    columns = max(LEAST_COLUMNS, min(MOST_COLUMNS, width - LABEL - 2))
    cells = [[" "] * columns for _ in range(ROWS)]
    if curve.suggestion is not None:
        for row in cells:
            row[_column(curve, curve.suggestion, columns)] = bar
    for column, (top, bottom) in _spans(curve, columns).items():
        for number in range(top, bottom + 1):
            cells[number][column] = dot
    low, high = curve.bounds
    for number, row in enumerate(cells):
        value = high - (high - low) * number / (ROWS - 1)
        label = f"{value:.4g}" if number in (0, ROWS // 2, ROWS - 1) else ""
        yield f"{label:>{LABEL - 1}} {edge}{''.join(row)}".rstrip()
    yield f"{'loss':>{LABEL - 1}} {corner}{floor * columns}"
    yield _decade_labels(curve, columns)


def _decade_labels(curve: RateCurve, columns: int) -> str:
    first, last = curve.decades
    line = [" "] * (LABEL + 1 + columns)
    free = 0
    for decade in range(first, last + 1):
        label = f"1e{decade}"
        place = min(LABEL + 1 + _column(curve, 10.0**decade, columns), len(line) - len(label))
        if place >= free:
            line[place : place + len(label)] = label
            free = place + len(label) + 1
    return "".join(line).rstrip()


def _spans(curve: RateCurve, columns: int) -> dict[int, tuple[int, int]]:
    """The rows, from the top, that the curve takes in every column from its first to its last rate."""
    places = [(_column(curve, rate, columns), loss) for rate, loss in zip(curve.rates, curve.smoothed, strict=True)]
    spans: dict[int, tuple[int, int]] = {}
    before = _row(curve, places[0][1])
    for column in range(places[0][0], places[-1][0] + 1):
        here = [_row(curve, loss) for place, loss in places if place == column] or [
            _row(curve, _between(places, column))
        ]
        # Joined to the column before, but for the row that the curve has there.
        joined = [*here, before + 1 if min(here) > before else before - 1 if max(here) < before else here[0]]
        spans[column] = min(joined), max(joined)
        before = here[-1]
    return spans


def _between(places: list[tuple[int, float]], column: int) -> float:
    """The loss at a column between two of the places, along a line."""
    left, right = max(each for each in places if each[0] < column), min(each for each in places if each[0] > column)
    share = (column - left[0]) / (right[0] - left[0])
    return left[1] + share * (right[1] - left[1])


def _column(curve: RateCurve, rate: float, columns: int) -> int:
    first, last = curve.decades
    share = (log10(rate) - first) / (last - first)
    return min(max(round(share * (columns - 1)), 0), columns - 1)


def _row(curve: RateCurve, loss: float) -> int:
    low, high = curve.bounds
    share = (min(max(loss, low), high) - low) / (high - low)
    return round((1 - share) * (ROWS - 1))
