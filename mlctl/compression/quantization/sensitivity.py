"""How much each node's integers harm the answer, one node at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log10
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from mlctl.compression.quantization.quantizer import Quantizer
from mlctl.compression.quantization.serialization import serialized
from mlctl.errors import DataError
from mlctl.events import Progress, Tell, silent
from mlctl.runtime.answers import Arrays
from mlctl.runtime.session import OnnxSession

MOST_ROWS = 64
"""Rows that are answered, the first ones: the order of nodes settles long before."""
MOST_NUMBERS = 1 << 24
"""Numbers in the answers, above which no further batch is taken: a text's logits are thousands at every place."""

_BATCH = 16
_CHUNK_NUMBERS = 1 << 20
"""Numbers that are turned into float64 at once (8 MiB)."""


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

    `rows` holds every input [N, ...]; the first 64 are used, fewer where answers are large, in batches of 16 or of the
    size that the graph fixes. Of several outputs the worst counts. Each node costs one session. Raises DataError
    without enough rows for a batch, StepFailed for a graph above 2 GiB.
    """
    session = OnnxSession(serialized(float_model), threads=threads)
    answered: list[tuple[Arrays, Arrays]] = []
    for batch in _batches(rows, session.inputs[0].shape[:1]):
        answered.append((batch, session.all(batch)))
        if sum(each.size for _, expected in answered for each in expected) >= MOST_NUMBERS:
            break
    found, every = [], frozenset(quantizer.nodes)
    for done, node in enumerate(quantizer.nodes, 1):
        alone = OnnxSession(serialized(quantizer.quantized(every - {node})), threads=threads)
        found.append(Sensitivity(node, _worst(alone, answered)))
        tell(Progress("sensitivity", done, len(every), "nodes", node))
    return tuple(sorted(found, key=lambda each: each.decibels))


class Noise:
    """The squares of a signal and of answers' differences to it, summed batch by batch in float64."""

    def __init__(self) -> None:
        self._power = self._noise = 0.0

    def add(self, signal: npt.NDArray[Any], answers: npt.NDArray[Any]) -> None:
        """A batch of both, [B, ...]."""
        size = max(1, _CHUNK_NUMBERS // max(1, signal[:1].size))
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, len(signal), size):
                part = np.asarray(signal[start : start + size], np.float64)
                self._power += float(np.square(part).sum())
                self._noise += float(np.square(answers[start : start + size] - part).sum())

    @property
    def decibels(self) -> float:
        """10 log10(sum of squared signal / sum of squared difference).

        Infinite for equal arrays, minus infinite where an answer is not finite or the signal is zero and the answer
        not.
        """
        if self._noise == 0:
            return inf
        return 10 * log10(self._power / self._noise) if np.isfinite(self._noise) and self._power > 0 else -inf


def decibels(signal: Arrays, answers: Arrays) -> float:
    """`Noise.decibels` over all arrays together."""
    noise = Noise()
    for each, answer in zip(signal, answers, strict=True):
        noise.add(each, answer)
    return noise.decibels


def _worst(session: OnnxSession, answered: Sequence[tuple[Arrays, Arrays]]) -> float:
    """The lowest of the outputs' figures over batches and the answers expected; each output's count together."""
    outputs = [Noise() for _ in answered[0][1]]
    for batch, expected in answered:
        for noise, signal, answer in zip(outputs, expected, session.all(batch), strict=True):
            noise.add(signal, answer)
    return min(each.decibels for each in outputs)


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
