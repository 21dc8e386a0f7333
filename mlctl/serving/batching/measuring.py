"""What batches of a model cost, and whether their answers are those of its rows alone: tried when it is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from mlctl.errors import MlctlError
from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Running
from mlctl.serving.batching.agreement import difference, tolerance_of
from mlctl.serving.batching.costs import Costs, Curve
from mlctl.serving.batching.joining import join, split
from mlctl.serving.batching.layout import Layout
from mlctl.serving.batching.made_rows import MadeRows, ways_to_make
from mlctl.serving.batching.waiting import Waiting
from mlctl.serving.inference import Inference

FAST_SECONDS: Final = 0.02
"""For all batches of a fast model, unless the sizes that pay take longer."""
SLOW_SECONDS: Final = 1.0
"""For all batches of a slow one, shared among its lengths; a batch that is expected to end later is not begun."""
_SLOW_CALL: Final = 0.02
"""A call that takes as long is timed once: the first one's extra work is lost in it."""
_CALLS: Final = 3
"""Of a batch that does not seem to pay: the first has extra work, and the machine may have disturbed another."""
_GAIN: Final = 1.03
"""Rows per second against the best so far. Less is no gain, and the end: at once, for a slow model the second time."""
_MOST_BYTES: Final = 64 << 20
"""Of the rows of a batch that is tried."""
INLINE_SECONDS: Final = 0.0005
"""What takes less is computed between two reads of the network. On 2 cores, a small CNN of 0.25 ms a row: one caller
waits 0.47 ms, and 0.53 ms where a thread computes; but that answers 14 % more of 16 callers."""
_AROUND: Final = 2e-4
"""Seconds of a processor that a batch costs beside the model: threads wake each other, and the event loop's code and
data were driven out of the caches. On 2 cores, a small int8 CNN at 64 callers: 226, 181, 173 and 161 microseconds a row
in batches of 4 to 32."""


@dataclass(frozen=True)
class Measured:
    """What was found out about a model."""

    costs: Costs
    layout: Layout
    is_fast: bool
    """Whether one row takes well under a millisecond."""
    made: MadeRows | None
    """Where rows that the model answers come from; None where none could be made."""
    known_good: Arrays | None
    """One of them, or as many as the graph takes at once."""

    def is_short(self, batch: list[Waiting]) -> bool:
        """Whether the model is expected to take no longer for a batch than a fast one does for a row."""
        rows, length = sum([each.rows for each in batch]), max([each.length for each in batch])
        return self.costs.price(rows, length) <= INLINE_SECONDS + _AROUND


@dataclass
class _Trial:
    """Calls of a model, timed, within a budget of time."""

    session: Running
    made: MadeRows
    max_size: int
    tolerance: float
    spent: float = 0.0
    until: float = SLOW_SECONDS
    """What may be spent up to the end of this length."""
    apart: float = 0.0
    """The largest difference of an answer in a batch, so far as that was within the tolerance."""
    alone: dict[tuple[int, int], Arrays] = field(default_factory=dict)
    """Answers to single rows, by row and length."""

    def call(self, rows: Arrays) -> tuple[Arrays, float]:
        """The answer and its seconds."""
        began = perf_counter()
        found = self.session.all(rows)
        seconds = perf_counter() - began
        self.spent += seconds
        return found, seconds

    def answer(self, row: int, length: int) -> Arrays:
        """To a row alone."""
        if (row, length) not in self.alone:
            self.alone[row, length] = self.call(self.made.rows(row, 1, length))[0]
        return self.alone[row, length]

    def agrees(self, batch: Sequence[tuple[int, int]], outputs: Sequence[Arrays]) -> bool:
        """Whether the answers of rows, each with its length, are those that they get alone."""
        found = max(difference(self.answer(*each), own) for each, own in zip(batch, outputs, strict=True))
        if found <= self.tolerance:
            self.apart = max(self.apart, found)
        return found <= self.tolerance


def measure(session: Running, layout: Layout, max_size: int, given: Sequence[Arrays] = ()) -> Measured:
    """Try batches of 1, 2, 4 … `max_size` rows, of 8, 32, 128 and 512 in length where that is open.

    The rows are `given` ones [n, ...], repeated, or made up. A size that the model refuses, or answers otherwise than
    one row alone, ends the batches. A model that takes none of the rows is never given a batch.
    """
    trial, length = _begin(session, layout, max_size, given)
    if trial is None:
        return Measured(Costs((), max_size, can_join=False, can_pad=False), layout, False, None, None)
    if not layout.is_batched:
        rows = trial.made.rows(0, _fixed(session), length)
        curve = Curve(length, (len(rows[0]),), (trial.call(rows)[1] + _AROUND,))
        return Measured(Costs((curve,), max_size, False, False), layout, False, trial.made, rows)
    curves = _curves(trial, length)
    can_join = curves[0].rows[-1] > 1
    can_pad = can_join and len(curves) > 1 and _pads(trial, layout, curves[0].length, curves[1].length)
    typical = next((curve for curve in reversed(curves) if curve.length <= 128), curves[0])
    is_fast = typical.seconds[0] < INLINE_SECONDS
    dear = tuple(Curve(each.length, each.rows, tuple(one + _AROUND for one in each.seconds)) for each in curves)
    costs = Costs(dear, max_size, can_join, can_pad, trial.tolerance, trial.apart)
    return Measured(costs, layout, is_fast, trial.made, trial.made.rows(0, 1, length))


def _begin(session: Running, layout: Layout, max_size: int, given: Sequence[Arrays]) -> tuple[_Trial | None, int]:
    """Rows that the model takes, and the first length that it does."""
    rows = 1 if layout.is_batched else _fixed(session)
    for made in ways_to_make(session.inputs, layout, given):
        trial = _Trial(session, made, max_size, tolerance_of(session))
        for length in made.lengths:
            if made.bytes_of(rows, length) > _MOST_BYTES:
                continue
            try:
                trial.call(made.rows(0, rows, length))
            except MlctlError:
                continue
            return trial, length
    return None, 0


def _fixed(session: Running) -> int:
    """The number of rows that the graph takes where that is written in it."""
    return next((port.shape[0] for port in session.inputs if port.shape and port.shape[0] is not None), 1)


def _curves(trial: _Trial, length: int) -> list[Curve]:
    """Of this length, and of the longer ones that the model takes; of single rows where they cannot be joined."""
    longer = [each for each in trial.made.lengths if each > length]
    trial.until = SLOW_SECONDS / (1 + len(longer))
    curves = [_curve(trial, length)]
    if curves[0].rows[-1] == 1:
        trial.max_size = 1
    for place, each in enumerate(longer):
        expected = 2 * curves[-1].seconds[0] * each / curves[-1].length
        if trial.spent + expected > SLOW_SECONDS or not _is_taken(trial, each):
            break
        trial.until = trial.spent + (SLOW_SECONDS - trial.spent) / (len(longer) - place)
        curves.append(_curve(trial, each))
    return curves


def _is_taken(trial: _Trial, length: int) -> bool:
    try:
        trial.answer(0, length)
    except MlctlError:
        return False
    return True


def _curve(trial: _Trial, length: int) -> Curve:
    """Of a length that the model takes: every size, until that does not pay, and again while there is time."""
    began, share = trial.spent, FAST_SECONDS / len(trial.made.lengths)
    seconds = {1: min(trial.call(trial.made.rows(0, 1, length))[1] for _ in range(2))}
    is_fast = seconds[1] < INLINE_SECONDS
    size, idle = 2, 0
    while size <= trial.max_size:
        if trial.spent + 2 * seconds[max(seconds)] > trial.until or trial.made.bytes_of(size, length) > _MOST_BYTES:
            break
        row = min((each + _AROUND) / rows for rows, each in seconds.items()) / _GAIN
        found = _timed_batch(trial, size, length, size * row - _AROUND)
        if found is None:
            break
        seconds[size] = found
        idle = 0 if found + _AROUND <= size * row else idle + 1
        # What costs next to nothing is tried even so: larger batches may pay where small ones do not.
        is_dear = 2 * _CALLS * found > began + share - trial.spent
        if is_dear and (idle > 1 or (is_fast and (idle or not _may_pay(seconds)))):
            break
        size = min(size * 2, trial.max_size) if size < trial.max_size else size + 1
    _repeat(trial, length, seconds, began + share)
    return Curve(length, tuple(seconds), tuple(seconds.values()))


def _may_pay(seconds: Mapping[int, float]) -> bool:
    """Whether twice the largest size could gain, if each row would take the model as long, or less where that falls."""
    *smaller, largest = seconds
    row = seconds[largest] / largest
    is_falling = min(seconds[size] / size for size in smaller) >= row * _GAIN
    return is_falling or row + _AROUND / largest >= (row + _AROUND / (2 * largest)) * _GAIN


def _timed_batch(trial: _Trial, size: int, length: int, wanted: float) -> float | None:
    """Seconds of a batch, which pays in `wanted`; None where the model refuses it, or answers otherwise than alone."""
    rows = trial.made.rows(0, size, length)
    try:
        outputs, seconds = trial.call(rows)
        if any(each.shape[:1] != (size,) for each in outputs):
            return None
        ends = [(0, length), (1, length)] if size == 2 else [(0, length)]
        if not trial.agrees(ends, [tuple(each[row : row + 1] for each in outputs) for row, _ in ends]):
            return None
        calls = 1
        while seconds <= _SLOW_CALL and (calls < 2 or (calls < _CALLS and seconds > wanted)):
            seconds, calls = min(seconds, trial.call(rows)[1]), calls + 1
        return seconds
    except MlctlError:
        return None


def _repeat(trial: _Trial, length: int, seconds: dict[int, float], until: float) -> None:
    """Time all sizes in turn while that is a matter of milliseconds; the machine's own business only adds to them."""
    rows: dict[int, Arrays] = {}
    while trial.spent + sum(seconds.values()) < until:
        rows = rows or {size: trial.made.rows(0, size, length) for size in seconds}
        for size, each in rows.items():
            seconds[size] = min(seconds[size], trial.call(each)[1])


def _pads(trial: _Trial, layout: Layout, short: int, long: int) -> bool:
    """Whether rows of three lengths get in one batch what they get alone."""
    batch = [(0, short), (1, (short + long) // 2), (2, long)]
    try:
        joined = [_waiting(trial.made.rows(row, 1, length), layout) for row, length in batch]
        outputs = split(trial.call(join(joined, layout))[0], joined, layout)
        return trial.agrees(batch, outputs)
    except MlctlError:
        return False


def _waiting(rows: Arrays, layout: Layout) -> Waiting:
    return Waiting(Inference(rows, lambda _: None, 0.0), rows, *layout.key_of(rows))
