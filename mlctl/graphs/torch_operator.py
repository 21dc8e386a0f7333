"""What one operator of ONNX is made of, where torch computes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from mlctl.errors import StepFailed
from mlctl.graphs.inspection import operator_name

Operation: TypeAlias = Callable[..., Tensor | tuple[Tensor, ...]]
"""A node's inputs in their order, None where one is left out, to its output or outputs."""


@dataclass(frozen=True)
class Operator:
    """How a node becomes an operation.

    `host` are the places of inputs that say how to compute, such as shapes and axes: they are read on the host.
    """

    make: "Callable[[Attributes], Operation]"
    host: frozenset[int] = frozenset()


class Attributes:
    """What a node says beside its inputs, and of which version its operator is."""

    def __init__(self, node: onnx.NodeProto, version: int) -> None:
        """`version` is that of the set of operators."""
        self.version = version
        self.outputs = len(node.output)
        self._node = node
        self._found: dict[str, Any] = {each.name: helper.get_attribute_value(each) for each in node.attribute}

    def has(self, name: str) -> bool:
        """Whether the node gives it."""
        return name in self._found

    def whole(self, name: str, default: int) -> int:
        """A whole number."""
        return int(self._found.get(name, default))

    def real(self, name: str, default: float) -> float:
        """A number."""
        return float(self._found.get(name, default))

    def wholes(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Several whole numbers."""
        return tuple(int(each) for each in self._found.get(name, default))

    def text(self, name: str, default: str) -> str:
        """A word."""
        found = self._found.get(name, default)
        return found.decode() if isinstance(found, bytes) else str(found)

    def tensor(self, name: str) -> Tensor:
        """A tensor, which the node gives."""
        return tensor_of(self._found[name])

    def require(self, is_supported: bool, what: str) -> None:
        """Raise StepFailed, naming the node and `what` it wants, where that has no gradient here."""
        if not is_supported:
            raise no_gradient(self._node, what)


def no_gradient(node: onnx.NodeProto, what: str = "") -> StepFailed:
    """The refusal of a node that cannot be trained through."""
    detail = f" with {what}" if what else ""
    return StepFailed(
        f"no gradient for the operator {operator_name(node)}{detail}, node {node.name or node.output[0]!r}",
        next="quantize this graph with another `method`, or export the network without that operator",
    )


def tensor_of(stored: onnx.TensorProto) -> Tensor:
    """A stored tensor, on the host. Raises StepFailed for a type that torch does not compute with."""
    values = np.array(numpy_helper.to_array(stored))
    if values.dtype.kind not in "biuf" or values.dtype.type.__module__ != "numpy":
        raise StepFailed(
            f"the tensor {stored.name!r} is of a type that cannot be trained with, {values.dtype}",
            next="quantize this graph with another `method`",
        )
    return torch.from_numpy(values)


def plain(operation: Operation) -> Operator:
    """An operator without attributes."""
    return Operator(lambda _: operation)


def wholes_of(values: Tensor) -> tuple[int, ...]:
    """Whole numbers out of a tensor on the host."""
    return tuple(int(each) for each in values.flatten().tolist())
