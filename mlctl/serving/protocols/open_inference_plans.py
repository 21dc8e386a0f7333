"""Requests whose JSON was read before: callers send the same one again and again, with other bytes behind it."""

from dataclasses import dataclass, field
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np

from mlctl.runtime.answers import Arrays
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
        arrays = [np.frombuffer(body, each.dtype, each.count, each.start).reshape(each.shape) for each in self.parts]
        return tuple([each if each.flags.aligned else each.copy() for each in arrays])


class Plans:
    """What is remembered, for one server."""

    def __init__(self) -> None:
        self._plans: dict[bytes, Plan] = {}

    def find(self, said: bytes, signature: Signature, size: int) -> Plan | None:
        """The plan of a JSON for the same loaded model and as long a body; None where it is to be read."""
        plan = self._plans.get(said)
        return plan if plan is not None and plan.signature is signature and plan.size == size else None

    def remember(self, said: bytes, plan: Plan) -> None:
        """Keep a plan."""
        if len(self._plans) >= _MOST:
            self._plans.clear()
        self._plans[said] = plan


def part_of(signature: Signature, name: str, start: int, shape: list[int]) -> Part | None:
    """The place of an input's bytes; None where those are not its numbers as they are."""
    port = signature.input(name)
    if port is None or port.dtype in ("object", "bool"):
        return None
    return Part(start, array_dtype(port), tuple(shape), prod(shape))
