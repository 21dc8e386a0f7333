"""Which runtime answers fastest here, among those whose answers are right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.errors import DataError, StepFailed
from mlctl.events import Tell, silent
from mlctl.runtime.answers import Arrays, answer, rows_within
from mlctl.runtime.latency import measure_latency
from mlctl.runtime.opening import has_openvino, open_graph
from mlctl.runtime.running import Running, Runtime

Decision: TypeAlias = Literal["argmax", "none"]

LEAST_COSINE = 0.9999
"""bfloat16 has 8 bits of precision: an error of 2^-9 in every number leaves 0.999998. Below this, more is wrong."""
LEAST_AGREEMENT = 0.99
"""Share of equal decisions."""

MOST_ROWS = 512
MOST_NUMBERS = 1 << 24
"""Numbers in the answers that are compared; fewer rows will do where one has thousands."""
ANSWER_BATCH = 64
BATCHES = (1, 32)
ROUNDS = 30
WARMUP_ROUNDS = 5


@dataclass(frozen=True)
class Likeness:
    """How near two runtimes' answers are, over all rows: their cosine, and the share of equal decisions.

    `agreement` is None where answers are no decisions.
    """

    cosine: float
    agreement: float | None

    @property
    def is_enough(self) -> bool:
        """Whether the answers may stand for each other."""
        return self.cosine >= LEAST_COSINE and (self.agreement is None or self.agreement >= LEAST_AGREEMENT)


@dataclass(frozen=True)
class Choice:
    """The runtime that was chosen.

    `ratio` is OpenVINO's speed over ONNX Runtime's, the geometric mean over the batch sizes; None where it was not
    measured, and so with the likeness of their answers. `why` says it in words.
    """

    runtime: Runtime
    why: str
    ratio: float | None = None
    likeness: Likeness | None = None


def choose_runtime(
    path: Path,
    rows: Arrays,
    *,
    threads: int,
    device: str = "cpu",
    decision: Decision,
    batches: Sequence[int] = BATCHES,
    tell: Tell = silent,
) -> Choice:
    """The faster of the installed runtimes for the graph at `path`, if its answers to `rows` [N, ...] are right.

    OpenVINO may stand for ONNX Runtime where, over at most 512 rows, the cosine of all answers is 0.9999 or more and,
    with the decision `argmax`, 99 % of the decisions agree. Both are then timed in turns at every batch size. A timing
    decides, so that two runs may choose differently. Raises what ONNX Runtime's session raises; DataError without rows.
    """
    reference = open_graph(path, threads=threads, device=device)
    if device != "cpu":
        return Choice("onnxruntime", f"OpenVINO is measured on the CPU alone, not on {device}")
    if not has_openvino():
        return Choice("onnxruntime", "OpenVINO is not installed")
    count = min(MOST_ROWS, rows_within(reference, rows, MOST_NUMBERS))
    some = tuple(each[:count] for each in rows)
    expected = answer(reference, some, ANSWER_BATCH)
    try:
        other = open_graph(path, runtime="openvino", threads=threads)
        likeness = alike(expected, answer(other, some, ANSWER_BATCH), decision)
    except (DataError, StepFailed) as refusal:
        return Choice("onnxruntime", refusal.what)
    if not likeness.is_enough:
        return Choice("onnxruntime", f"OpenVINO answers otherwise: {_in_words(likeness)}", likeness=likeness)
    return _faster(_speed_ratio(reference, other, some, batches, tell), likeness, other)


def alike(expected: npt.NDArray[Any], given: npt.NDArray[Any], decision: Decision) -> Likeness:
    """How near `given` is to `expected`, both [N, ...] and finite; of another shape, or beside zeros alone: not at all.

    With `argmax` a decision is the largest of the last axis.
    """
    if expected.shape != given.shape:
        return Likeness(0.0, 0.0 if decision == "argmax" else None)
    a, b = (np.asarray(each, np.float64).ravel() for each in (expected, given))
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / lengths if lengths else float(np.array_equal(a, b))
    if decision == "none":
        return Likeness(cosine, None)
    return Likeness(cosine, float((expected.argmax(axis=-1) == given.argmax(axis=-1)).mean()))


def _speed_ratio(reference: Running, other: Running, rows: Arrays, batches: Sequence[int], tell: Tell) -> float:
    models = [("onnxruntime", reference), ("openvino", other)]
    seconds = measure_latency(models, rows, batches=batches, rounds=ROUNDS, warmup=WARMUP_ROUNDS, tell=tell)
    medians = np.median(seconds, axis=2)
    return math.exp(float(np.log(medians[0] / medians[1]).mean()))


def _faster(ratio: float, likeness: Likeness, other: Running) -> Choice:
    runtime: Runtime = "openvino" if ratio > 1 else "onnxruntime"
    why = f"OpenVINO ({other.detail}) is {ratio:.2f} x as fast as ONNX Runtime, {_in_words(likeness)}"
    return Choice(runtime, why, ratio, likeness)


def _in_words(likeness: Likeness) -> str:
    cosine = f"the cosine of their answers is {likeness.cosine:.6f}"
    return cosine if likeness.agreement is None else f"{cosine}, {likeness.agreement:.1%} of the decisions are the same"
