"""How long an answer takes, measured so that models can be compared.

A machine's speed drifts. Models that take turns, call by call, all meet the same drift.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, perf_counter_ns
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.errors import DataError
from mlctl.events import Progress, Tell, silent
from mlctl.runtime.answers import Arrays, Model, first_rows

Floats: TypeAlias = npt.NDArray[np.float64]

_TELL_SECONDS = 0.2


@dataclass(frozen=True)
class Latency:
    """Percentiles of the time of one call, in milliseconds, over `calls` calls."""

    p50: float
    p95: float
    p99: float
    calls: int


@dataclass(frozen=True)
class Fed:
    """A model that takes `inputs` of its own by batch size, where models to be compared take different ones.

    Of the rows that it is called with, such as `COUNTED`, only their number matters.
    """

    model: Model
    inputs: Mapping[int, Arrays]

    def __call__(self, rows: Arrays) -> npt.NDArray[Any]:
        """The model's answer to its own inputs of this batch size."""
        return self.model(self.inputs[len(rows[0])])


COUNTED: Arrays = (np.zeros(1, np.uint8),)
"""Rows for models that are all `Fed`."""


def measure_latency(
    models: Sequence[tuple[str, Model]],
    inputs: Arrays,
    *,
    batches: Sequence[int],
    rounds: int,
    warmup: int,
    tell: Tell = silent,
) -> Floats:
    """Seconds of every timed call, float64 [models, batches, rounds].

    Each batch holds the first rows of `inputs` [N, ...], from the beginning again where N is too small. In every
    round each model is called once, and another one goes first; `warmup` rounds before are not timed. Garbage is
    collected before, not during. What is told of the time left takes the time of a call to grow with its batch.
    Raises DataError without rows.
    """
    if len(inputs[0]) == 0:
        raise DataError("there are no rows to time", next="give the split a larger share, or choose another split")
    seconds = np.empty((len(models), len(batches), rounds))
    told = monotonic()
    with _no_garbage_collection():
        for column, size in enumerate(batches):
            rows = first_rows(inputs, size)
            began = monotonic()
            for turn in range(-warmup, rounds):
                for place in range(len(models)):
                    index = (turn + place) % len(models)
                    elapsed = _timed(models[index][1], rows)
                    if turn >= 0:
                        seconds[index, column, turn] = elapsed
                if monotonic() - told > _TELL_SECONDS:
                    told = monotonic()
                    done = column * rounds + max(turn + 1, 0)
                    # Rounds that are left, in rounds of this batch size; those of a larger one take longer.
                    left = rounds - turn - 1 + sum(batches[column + 1 :]) / size * (rounds + warmup)
                    seconds_left = left * (told - began) / (turn + warmup + 1)
                    tell(Progress("latency", done, len(batches) * rounds, "rounds", f"batch {size}", left=seconds_left))
    return seconds


def summary(seconds: Floats) -> Latency:
    """Percentiles of the calls of one model at one batch size, float64 [rounds] seconds, interpolated linearly."""
    p50, p95, p99 = (float(each) * 1000 for each in np.percentile(seconds, [50, 95, 99]))
    return Latency(p50, p95, p99, len(seconds))


def _timed(model: Model, rows: Arrays) -> float:
    start = perf_counter_ns()
    model(rows)
    return (perf_counter_ns() - start) / 1e9


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
