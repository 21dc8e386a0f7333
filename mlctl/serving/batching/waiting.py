"""Requests on their way through the batcher."""

from collections.abc import Hashable

import numpy as np

from mlctl.runtime.answers import Arrays
from mlctl.serving.inference import Inference


class Waiting:
    """Rows of one request that are computed together: all of them, or a part of a large request's."""

    __slots__ = (
        "bytes",
        "inference",
        "inputs",
        "is_settled",
        "is_taken",
        "key",
        "length",
        "number",
        "place",
        "rows",
        "started",
        "whole",
    )

    def __init__(self, inference: Inference, inputs: Arrays, key: Hashable, length: int) -> None:
        """Rows [n, ...] that may be joined with others of the same key; `length` as the layout says."""
        self.inference = inference
        self.inputs = inputs
        self.rows = len(inputs[0])
        self.bytes = 0
        """Of the whole request's inputs."""
        self.key = key
        self.length = length
        self.number = 0
        """In the order of the queue."""
        self.whole: Whole | None = None
        self.place = 0
        """Of the part in its whole."""
        self.started = 0.0
        self.is_taken = False
        """Whether it is in a batch."""
        self.is_settled = False
        """Whether its caller has an answer, or has gone: what becomes of it interests nobody."""

    def is_live(self, now: float) -> bool:
        """Whether it is to be computed, or goes on being computed."""
        return self.inference.deadline > now and not self.inference.is_dropped and not self.is_settled


class Whole:
    """A request that is computed in parts, one after the other in the queue, so that others come in between."""

    __slots__ = ("bytes", "found", "inference", "key", "left", "length", "parts", "seconds", "size", "started")

    def __init__(self, inference: Inference, key: Hashable, length: int, size: int) -> None:
        """Parts have `size` rows, the last one what is left."""
        self.inference = inference
        self.key = key
        self.length = length
        self.size = size
        self.bytes = 0
        self.parts: list[Waiting] = []
        self.found: list[Arrays] = []
        self.left = -(-inference.rows // size)
        """Parts that are not answered."""
        self.started = 0.0
        self.seconds = 0.0

    def first_part(self) -> Waiting:
        """The part that is queued first."""
        return self._next_part()

    def part_after(self, part: Waiting) -> Waiting | None:
        """The rows after those of a part; None where there are no more, or where that was asked before."""
        is_last = part.place + 1 == len(self.parts)
        return self._next_part() if is_last and len(self.parts) * self.size < self.inference.rows else None

    def _next_part(self) -> Waiting:
        start = len(self.parts) * self.size
        inputs = tuple(each[start : start + self.size] for each in self.inference.inputs)
        part = Waiting(self.inference, inputs, self.key, self.length)
        part.whole, part.place, part.bytes = self, len(self.parts), self.bytes
        self.parts.append(part)
        self.found.append(())
        return part

    def take(self, part: Waiting, outputs: Arrays, seconds: float) -> bool:
        """Keep a part's answer; whether it was the last one that was missing."""
        self.found[part.place] = outputs
        self.left -= 1
        self.seconds += seconds
        return self.left == 0

    def joined(self) -> Arrays:
        """The answer to the whole request, every output [n, ...]."""
        return tuple(np.concatenate(each) for each in zip(*self.found, strict=True))

    def settle(self) -> None:
        """Let the parts that are still on their way interest nobody."""
        for each in self.parts:
            each.is_settled = True
