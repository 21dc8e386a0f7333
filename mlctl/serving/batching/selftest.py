"""Proof, for the model at hand, that an answer in a batch is the answer alone."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from mlctl.errors import StepFailed
from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Running
from mlctl.serving.batching.agreement import difference, tolerance_of
from mlctl.serving.batching.batcher import Batcher
from mlctl.serving.batching.computing import Model
from mlctl.serving.batching.layout import layout_of
from mlctl.serving.batching.made_rows import MadeRows
from mlctl.serving.batching.measuring import Measured, measure
from mlctl.serving.batching.waiting import Waiting
from mlctl.serving.batching.workers import choose_worker
from mlctl.serving.inference import Inference
from mlctl.serving.refusals import Refused
from mlctl.serving.settings import Batching, Execution
from mlctl.serving.telemetry.statistics import ModelStatistics

_CALLERS: Final = 64
_PATIENCE: Final = 600.0
"""Seconds for all callers together."""
_SHARES: Final = (0.0, 0.3, 0.55, 1.0)
"""Of the way from the shortest length to the longest."""

_Row = tuple[int, int]
"""The number of a row and its length."""


@dataclass(frozen=True)
class Check:
    """Answers that were compared with those of the same rows alone."""

    what: str
    rows: int
    difference: float
    """The largest, over the largest number of its answer; 0.0 for the same bits."""

    @property
    def is_bit_equal(self) -> bool:
        """Whether every bit is the same."""
        return self.difference == 0.0


@dataclass(frozen=True)
class SelfTest:
    """Every way in which the batcher joins rows of this model, tried."""

    checks: tuple[Check, ...]
    tolerance: float
    """The largest difference that passes, for the precision that the model computes in."""
    largest_batch: int
    """Rows that are joined at the most; 1 where joining does not pay, or would change answers."""
    is_padded: bool
    """Whether rows of different length are joined."""

    @property
    def holds(self) -> bool:
        """Whether every answer was that of its row alone."""
        return all(each.difference <= self.tolerance for each in self.checks)


@dataclass(frozen=True)
class _Proof:
    model: Model
    measured: Measured
    made: MadeRows
    known: dict[_Row, Arrays] = field(default_factory=dict)

    def alone(self, row: _Row) -> Arrays:
        """The answer to a row that is the only one."""
        if row not in self.known:
            self.known[row] = self.model.session.all(self._inputs(row))
        return self.known[row]

    def batch(self, what: str, rows: Sequence[_Row]) -> Check:
        """Rows in one batch, each a request of its own."""
        requests = [self._inputs(row) for row in rows]
        waiting = [
            Waiting(Inference(each, lambda _: None, 0.0), each, *self.model.layout.key_of(each)) for each in requests
        ]
        computed = self.model.compute(waiting)[0]
        answers = computed.answers
        if isinstance(answers, Refused) or len(answers) < len(rows):
            raise StepFailed(f"{what}: the model does not answer it, though it answered such rows when it was loaded")
        return self._compared(what, rows, answers)

    def callers(self, what: str, rows: Sequence[_Row], batcher: Batcher) -> Check:
        """Rows that many callers send at once."""
        found = _asked(batcher, [self._inputs(row) for row in rows])
        return self._compared(what, rows, found)

    def large(self, count: int, length: int, batcher: Batcher) -> Check:
        """One request of so many rows."""
        (found,) = _asked(batcher, [self.made.rows(0, count, length)])
        rows = [(row, length) for row in range(count)]
        apart = [tuple(each[row : row + 1] for each in found) for row in range(count)]
        return self._compared(f"one request of {count} rows", rows, apart)

    def _inputs(self, row: _Row) -> Arrays:
        # A graph that takes only so many rows at once is asked for all of them.
        count = 1 if self.model.layout.is_batched else self.measured.costs.curves[0].rows[0]
        return self.made.rows(row[0], count, row[1])

    def _compared(self, what: str, rows: Sequence[_Row], answers: Sequence[Arrays]) -> Check:
        largest = max(difference(self.alone(row), found) for row, found in zip(rows, answers, strict=True))
        return Check(what, len(rows), largest)


def selftest(
    session: Running, execution: Execution, batching: Batching, *, pad: int = 0, given: Sequence[Arrays] = ()
) -> SelfTest:
    """Every size of a batch, rows in other company and order, lengths padded, requests split, many callers at once.

    Rows are `given` ones [n, ...], or made up from the ports. Runs an event loop of its own, so that none may run.
    Raises StepFailed where no rows could be made that the model takes.
    """
    measured = measure(session, layout_of(session.inputs, session.outputs, pad), batching.max_size, given)
    if measured.made is None:
        raise StepFailed(
            "no rows could be made up that this model takes",
            next="publish it from a recipe: its golden requests are rows that it takes",
        )
    model = Model(session, measured.layout, measured.known_good)
    proof = _Proof(model, measured, measured.made)
    length = measured.costs.curves[0].length
    most = measured.costs.best(batching.max_size, length)
    checks = [proof.batch(f"batch of {size}", [(row, length) for row in range(size)]) for size in range(1, most + 1)]
    checks.append(proof.batch("in another order", [(row, length) for row in reversed(range(most))]))
    lengths = _lengths(measured)
    if len(lengths) > 1:
        checks.append(proof.batch("padded", list(enumerate(lengths))))
    with_batcher = _new_batcher(model, measured, execution, batching)
    mixed = [(row, lengths[row * 7 % len(lengths)]) for row in range(_CALLERS)]
    checks.append(proof.callers(f"{_CALLERS} callers at once", mixed, with_batcher))
    if measured.layout.is_batched and measured.costs.can_join:
        checks.append(proof.large(2 * most + 1, length, _new_batcher(model, measured, execution, batching)))
    return SelfTest(tuple(checks), tolerance_of(session), most, len(lengths) > 1)


def _lengths(measured: Measured) -> tuple[int, ...]:
    curves = measured.costs.curves
    if not measured.costs.can_pad:
        return (curves[0].length,)
    shortest, longest = curves[0].length, curves[1].length
    return tuple(shortest + round(share * (longest - shortest)) for share in _SHARES)


def _new_batcher(model: Model, measured: Measured, execution: Execution, batching: Batching) -> Batcher:
    worker = choose_worker(model.compute, execution, measured.is_short if measured.is_fast else None)
    return Batcher(model.layout, measured.costs, worker, batching, ModelStatistics())


def _asked(batcher: Batcher, requests: Sequence[Arrays]) -> list[Arrays]:
    """The answers to requests that all come at once. Raises StepFailed for one that is refused."""
    found: dict[int, Arrays | Refused] = {}

    def answered(place: int) -> Callable[[Arrays | Refused], None]:
        return partial(found.__setitem__, place)

    async def ask() -> None:
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        for place, inputs in enumerate(requests):
            batcher.submit(Inference(inputs, answered(place), deadline))
        await batcher.drain()
        batcher.close()

    asyncio.run(ask())
    answers = []
    for place in range(len(requests)):
        answer = found[place]
        if isinstance(answer, Refused):
            raise StepFailed(f"a request of the self-test was refused: {answer.what}")
        answers.append(answer)
    return answers
