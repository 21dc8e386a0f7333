"""Requests whose JSON was read before: callers send the same one again and again, with other bytes behind it."""

from dataclasses import dataclass, field
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.runtime.answers import Arrays
from mlctl.serving.protocols.open_inference_json_plans import JsonPlans
from mlctl.serving.protocols.open_inference_tensors import Wanted, array_dtype
from mlctl.serving.signature import Signature

LONGEST: Final = 2048
"""Bytes of a JSON that is remembered."""
_MOST: Final = 256
"""How many are; then all are forgotten, and those that still come are remembered anew."""

_MOST_HEADS: Final = 16
"""Answers of other shapes that are remembered for one JSON."""

Shapes: TypeAlias = tuple[tuple[int, ...], ...]
Head: TypeAlias = tuple[bytes, tuple[tuple[str, str], ...]]
"""An answer's JSON, and the headers that go with it."""


@dataclass(frozen=True, slots=True)
class Part:
    """Where a tensor lies in the body."""

    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    count: int

    def array(self, body: bytes) -> npt.NDArray[Any]:
        """The tensor, aligned: a copy of its bytes where they begin between two numbers."""
        size = self.dtype.itemsize
        if self.start % size:
            return np.ndarray(self.shape, self.dtype, body[self.start : self.start + self.count * size])
        return np.ndarray(self.shape, self.dtype, body, self.start)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a JSON says that was found to be right, of tensors that are nothing but their bytes."""

    signature: Signature
    size: int
    """Of the whole body, in bytes."""
    parts: tuple[Part, ...]
    """In the model's order."""
    outputs: tuple[Wanted, ...]
    """All of them as bytes."""
    heads: dict[Shapes, Head] = field(default_factory=dict)
    """The JSON of answers by the shapes of what they carry."""

    def keep(self, shapes: Shapes, head: Head) -> Head:
        """Remember the JSON of an answer."""
        if len(self.heads) >= _MOST_HEADS:
            self.heads.clear()
        self.heads[shapes] = head
        return head

    def inputs(self, body: bytes) -> Arrays:
        """The tensors of a body; they look at it where their alignment allows."""
        return tuple([each.array(body) for each in self.parts])


class Plans:
    """What is remembered, for one server."""

    def __init__(self) -> None:
        self._plans: dict[bytes, Plan] = {}
        self._ends: dict[str, int] = {}
        """Where JSON ends, by the header that says so."""
        self.in_json = JsonPlans()
        """Those of requests whose numbers are in the JSON."""

    def find(self, length: str, body: bytes, signature: Signature) -> Plan | None:
        """The plan of the JSON that begins a body, for the same loaded model and as long a body.

        `length` is the header that says where it ends. None where the request is to be read.
        """
        end = self._ends.get(length)
        plan = self._plans.get(body[:end]) if end is not None else None
        return plan if plan is not None and plan.signature is signature and plan.size == len(body) else None

    def remember(self, length: str, end: int, body: bytes, plan: Plan) -> None:
        """Keep the plan of the JSON that begins a body and ends where the header says; a long one is not kept."""
        if end > LONGEST:
            return
        if len(self._plans) >= _MOST or len(self._ends) >= _MOST:
            self._plans.clear()
            self._ends.clear()
        self._plans[body[:end]] = plan
        self._ends[length] = end


def part_of(signature: Signature, name: str, start: int, shape: list[int]) -> Part | None:
    """The place of an input's bytes; None where those are not its numbers as they are."""
    port = signature.input(name)
    if port is None or port.dtype in ("object", "bool"):
        return None
    return Part(start, array_dtype(port), tuple(shape), prod(shape))
