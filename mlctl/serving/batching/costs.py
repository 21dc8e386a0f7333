"""What batches cost, as it was measured, and which of them pay."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

_TIE: Final = 0.97
"""A batch that gives 3 % fewer rows per second than the best one is as good: that much is noise."""
_MOST_LENGTHS: Final = 4096
"""Lengths whose tables are kept; a table of 64 rows takes 3 kB."""


@dataclass(frozen=True)
class Curve:
    """Seconds of batches of rows of one length; `rows` ascend, `seconds` are positive."""

    length: int
    """0 where rows have none."""
    rows: tuple[int, ...]
    seconds: tuple[float, ...]
    """Of a batch with everything around the model; a larger batch is never cheaper."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", tuple(accumulate(self.seconds, max)))

    def at(self, rows: int) -> float:
        """Between measured sizes linear, beyond them in proportion to the rows."""
        known, seconds = self.rows, self.seconds
        place = bisect_left(known, rows)
        if place == len(known):
            return seconds[-1] * rows / known[-1]
        if place == 0:
            return seconds[0]
        share = (rows - known[place - 1]) / (known[place] - known[place - 1])
        return seconds[place - 1] + share * (seconds[place] - seconds[place - 1])


@dataclass(frozen=True, eq=False)
class Costs:
    """Seconds of batches by rows and length, and whether rows may be joined at all."""

    curves: tuple[Curve, ...]
    """By length, ascending; none where no rows could be made that the model takes."""
    max_size: int
    """Most rows of a batch that may be formed."""
    can_join: bool
    """Whether rows of one length get in a batch what they get alone."""
    can_pad: bool
    """Whether a row gets with padding what it gets alone."""
    tolerance: float = 0.0
    """The largest difference between answers that pass for the same."""
    largest_difference: float = 0.0
    """Of an answer in a batch from that alone, as far as they were compared."""
    _tables: dict[int, "_Table"] = field(default_factory=dict, init=False, repr=False)

    def seconds(self, rows: int, length: int = 0) -> float:
        """Of one batch: it grows with rows and with length, and is positive; 1 ms a row where nothing is known."""
        if not self.curves:
            return 0.001 * rows
        place = bisect_right(self.curves, length, key=_length) - 1
        if place < 0:
            return self._up_to(0, rows)
        below = self._up_to(place, rows)
        if place + 1 == len(self.curves):
            return below * max(1.0, length / max(1, self.curves[place].length))
        above = self._up_to(place + 1, rows)
        start, end = self.curves[place].length, self.curves[place + 1].length
        return below + (above - below) * (length - start) / (end - start)

    def best(self, rows: int, length: int = 0) -> int:
        """Of so many rows, at least 1, how many one batch takes so that the rows per second are most.

        It is one of the sizes that were measured, or all of them. Of sizes that are equal within 3 % the smallest.
        """
        table = self._table(length)
        return table.best[min(rows, len(table.best) - 1)]

    def price(self, rows: int, length: int = 0) -> float:
        """As `seconds`, for a batch that may be formed, at the cost of a look-up."""
        seconds = self._table(length).seconds
        return seconds[rows] if rows < len(seconds) else self.seconds(rows, length)

    def _table(self, length: int) -> "_Table":
        table = self._tables.get(length)
        if table is None:
            if len(self._tables) >= _MOST_LENGTHS:
                self._tables.clear()
            table = self._tables[length] = self._new_table(length)
        return table

    def _new_table(self, length: int) -> "_Table":
        seconds = [0.0, *(self.seconds(rows, length) for rows in range(1, self._most(length) + 1))]
        measured = sorted({rows for curve in self.curves for rows in curve.rows if rows < len(seconds)})
        best = [0]
        for rows in range(1, len(seconds)):
            sizes = [*measured[: bisect_left(measured, rows)], rows]
            least = min(seconds[size] / size for size in sizes)
            best.append(next(size for size in sizes if seconds[size] / size * _TIE <= least))
        return _Table(tuple(seconds), tuple(best))

    def _most(self, length: int) -> int:
        """Rows that were tried without harm, at the lengths on either side."""
        if not self.can_join or not self.curves:
            return 1
        place = bisect_left(self.curves, length, key=_length)
        beside = self.curves[max(0, place - 1) : place + 1]
        return max(1, min(self.max_size, *(curve.rows[-1] for curve in beside)))

    def _up_to(self, place: int, rows: int) -> float:
        # A shorter row that was timed as the slower one was timed at a bad moment of the machine.
        return max(curve.at(rows) for curve in self.curves[: place + 1])


@dataclass(frozen=True)
class _Table:
    """By number of rows, from 0: seconds, and the best size of a batch out of so many."""

    seconds: tuple[float, ...]
    best: tuple[int, ...]


def _length(curve: Curve) -> int:
    return curve.length
