"""Records golden requests: which rows, what they are answered with, and how far an answer may be off.

The tolerance is measured. A graph that ONNX Runtime has fused and one that it runs as it is written compute the same by
different kernels: integers with the processor's own instructions in the one, as floats between roundings in the
other. Two machines' kernels are no further apart, so four times the largest difference between the two is allowed. With
onnxruntime 1.32 that difference was 7e-7 at most in float graphs, and 4e-4 in integer ones; so few rows meet few of the
sums that lie at an edge, so the tolerance is never less than what the kind of numbers may cost:

- float32: 1e-4, which is also what an export may differ from what it was exported from;
- float16: 5e-3, five steps of the format's 11 bits;
- integers: 2e-2, five steps of 8 bits.

And never more than a tenth of the largest answer: a version that differs by more is not the one that was published.
"""

from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from mlctl.errors import DataError
from mlctl.graphs.inspection import read_graph
from mlctl.graphs.storage import integer_share, weight_bits
from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port, widened
from mlctl.runtime.session import OnnxSession
from mlctl.serving.repository.golden import Answer, Decision, Golden, GoldenRequest, difference

REQUESTS: Final = 16
LEAST: Final = {"float": 1e-4, "half": 5e-3, "integer": 2e-2}
MOST: Final = 0.1
_MARGIN: Final = 4.0
_ANSWER_NUMBERS: Final = 1 << 22
"""Numbers of all golden answers together, so that a language model's do not outweigh the model."""


def record_golden(graph: Path, rows: Arrays, *, decision: Decision, threads: int = 1) -> tuple[Golden, str]:
    """Golden requests of the graph, and where their tolerance comes from.

    `rows` [N, ...] are held-out raw inputs, in the graph's order; those that are taken are spread evenly over them.
    Where the graph leaves the length of texts open, each request is cut to another length, the last one whole. Raises
    DataError without rows and for outputs that are no numbers, StepFailed for rows that the graph cannot answer.
    """
    if not len(rows[0]):
        raise DataError("there are no held-out rows to record golden requests of", next="give a split a larger share")
    session = OnnxSession(graph, threads=threads)
    requests = tuple(GoldenRequest(each, session.all(each)) for each in _chosen(session, rows))
    if any(array.dtype.kind not in "fiub" for request in requests for array in (*request.inputs, *request.outputs)):
        raise DataError("a golden request can hold nothing but numbers", where=graph, next="serve a graph of numbers")
    names = tuple(port.name for port in session.outputs)
    del session
    plain = OnnxSession(graph, threads=threads, is_optimized=False)
    kind = _kind(graph)
    exact = Golden(requests, names, LEAST[kind], decision)
    measured = _measured(exact, plain.all)
    tolerance = min(MOST, max(LEAST[kind], _MARGIN * measured))
    why = f"{kind} numbers; fused and as written differ by {measured:.2g} of the largest answer"
    return Golden(requests, names, tolerance, decision), why


def _kind(graph: Path) -> str:
    weights = weight_bits(read_graph(graph))
    if integer_share(weights):
        return "integer"
    return "half" if any(each.bits < 32 for each in weights) else "float"


def _measured(golden: Golden, answer: Answer) -> float:
    """The largest difference of floats between the golden answers and those of `answer`."""
    found = [(request.outputs, answer(request.inputs)) for request in golden.requests]
    return max(
        (
            difference(expected[place], given[place], scale)
            for expected, given in found
            for place, scale in enumerate(golden.scales)
            if expected[place].dtype.kind == "f"
        ),
        default=0.0,
    )


def _chosen(session: OnnxSession, rows: Arrays) -> list[Arrays]:
    """The requests' inputs [1, ...], of the dtypes of the graph's ports."""
    count = min(REQUESTS, len(rows[0]))
    places = np.linspace(0, len(rows[0]) - 1, count).round().astype(int)
    whole = [
        tuple(
            np.ascontiguousarray(widened(np.asarray(each[place : place + 1]), port.dtype))
            for each, port in zip(rows, session.inputs, strict=True)
        )
        for place in places
    ]
    if not _is_open_text(session.inputs, whole[0]):
        return whole[: max(1, _ANSWER_NUMBERS // _numbers(session, whole[0]))]
    shortest = tuple(each[:, :1] for each in whole[0])
    longest = min(whole[0][0].shape[1], max(1, _ANSWER_NUMBERS // REQUESTS // _numbers(session, shortest)))
    lengths = np.linspace(1, longest, count).round().astype(int)
    return [
        tuple(np.ascontiguousarray(each[:, :length]) for each in request)
        for request, length in zip(whole, lengths, strict=True)
    ]


def _is_open_text(ports: tuple[Port, ...], row: Arrays) -> bool:
    """Whether all inputs are rows of tokens [1, T] of one length, which the graph leaves open."""
    are_tokens = all(each.ndim == 2 and each.dtype.kind in "iu" for each in row)
    return are_tokens and len({each.shape[1] for each in row}) == 1 and all(port.shape[1:] == (None,) for port in ports)


def _numbers(session: OnnxSession, row: Arrays) -> int:
    """How many numbers one row's answers hold."""
    return max(1, sum(prod(each.shape) for each in session.all(row)))
