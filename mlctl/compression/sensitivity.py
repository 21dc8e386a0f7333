"""How much each node's integers harm the answer, one node at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, log10

import numpy as np
import onnx

from mlctl.compression.quantizer import Quantizer
from mlctl.compression.serialization import serialized
from mlctl.errors import DataError
from mlctl.events import Progress, Tell, silent
from mlctl.runtime.answers import Arrays
from mlctl.runtime.session import OnnxSession

MOST_ROWS = 64
"""Rows that are answered, the first ones: the order of nodes settles long before."""

_BATCH = 16


@dataclass(frozen=True)
class Sensitivity:
    """Signal over noise at the graph's output, in decibels, when `node` alone is quantized.

    Lower is more harmful: 20 dB is a noise of a tenth of the signal. Infinite where the answer does not move, minus
    infinite where it is no longer finite.
    """

    node: str
    decibels: float


def sensitivities(
    quantizer: Quantizer, float_model: onnx.ModelProto, rows: Arrays, *, threads: int, tell: Tell = silent
) -> tuple[Sensitivity, ...]:
    """Every node of the quantizer, the most harmful first, equals in the graph's order.

    `rows` holds every input [N, ...]; the first 64 are used, in batches of 16 or of the size that the graph fixes. Of
    several outputs the worst counts. Each node costs one session. Raises DataError without enough rows for a batch,
    StepFailed for a graph above 2 GiB.
    """
    session = OnnxSession(serialized(float_model), threads=threads)
    batches = tuple(_batches(rows, session.inputs[0].shape[:1]))
    expected = [session.all(batch) for batch in batches]
    found, every = [], frozenset(quantizer.nodes)
    for done, node in enumerate(quantizer.nodes, 1):
        alone = OnnxSession(serialized(quantizer.quantized(every - {node})), threads=threads)
        found.append(Sensitivity(node, _worst(expected, [alone.all(batch) for batch in batches])))
        tell(Progress("sensitivity", done, len(every), "nodes", node))
    return tuple(sorted(found, key=lambda each: each.decibels))


def decibels(signal: Arrays, answers: Arrays) -> float:
    """10 log10(sum of squared signal / sum of squared difference), over all arrays together.

    Infinite for equal arrays, minus infinite where an answer is not finite or the signal is zero and the answer not.
    """
    pairs = [(each.astype(np.float64), answer) for each, answer in zip(signal, answers, strict=True)]
    with np.errstate(invalid="ignore", over="ignore"):
        power = sum(float(np.square(each).sum()) for each, _ in pairs)
        noise = sum(float(np.square(answer - each).sum()) for each, answer in pairs)
    if noise == 0:
        return inf
    return 10 * log10(power / noise) if np.isfinite(noise) and power > 0 else -inf


def _worst(expected: list[Arrays], answers: list[Arrays]) -> float:
    """The lowest of the outputs' figures; each output's batches count together."""
    outputs = zip(zip(*expected, strict=True), zip(*answers, strict=True), strict=True)
    return min(decibels(signal, answer) for signal, answer in outputs)


def _batches(rows: Arrays, fixed: tuple[int | None, ...]) -> Iterator[Arrays]:
    count, size = min(len(rows[0]), MOST_ROWS), (fixed[0] if fixed else None) or _BATCH
    stop = count if fixed == (None,) else count - count % size
    if stop == 0:
        raise DataError(
            f"{count} rows are too few to see what integers do to the answer",
            next=f"give the split a larger share: the graph answers {size} rows at a time",
        )
    for start in range(0, stop, size):
        yield tuple(np.ascontiguousarray(each[start : min(start + size, stop)]) for each in rows)
