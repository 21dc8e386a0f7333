"""How much a graph computes for one sample: two floating-point operations for every multiply-add.

An operator whose multiply-adds are not known is named as uncounted, never taken for nothing.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import onnx

from mlctl.graphs.cleaning import module_scopes
from mlctl.graphs.inspection import operator_name
from mlctl.graphs.integer_kernels import nodes_on_integers
from mlctl.graphs.multiply_adds import multiply_adds
from mlctl.graphs.shapes import Shape, ShapedGraph

OPERATIONS_PER_MULTIPLY_ADD: Final = 2


@dataclass(frozen=True)
class NodeWork:
    """One node: what it takes, gives and computes for one sample.

    `flops` is None where it cannot be counted. `scope` names the module that it came from, where the file says so.
    """

    name: str
    operator: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    flops: int | None
    is_integer: bool
    scope: str


@dataclass(frozen=True)
class Work:
    """What a graph computes for one sample.

    `flops` sums what was counted; of branches the costliest. `integer_share` is the share of it done by integer
    kernels. `uncounted` are the operators that no rule counts or whose shapes are not known, with how many nodes
    each, so that `flops` is a lower bound where there are any.
    """

    flops: int
    integer_share: float
    uncounted: tuple[tuple[str, int], ...]
    nodes: tuple[NodeWork, ...]


@dataclass(frozen=True)
class _Sum:
    flops: int = 0
    of_integers: int = 0

    def __add__(self, other: "_Sum") -> "_Sum":
        return _Sum(self.flops + other.flops, self.of_integers + other.of_integers)


def work_of(shaped: ShapedGraph) -> Work:
    """The work of a graph whose shapes are known, as far as they are."""
    nodes: list[NodeWork] = []
    total = _graph_work(shaped, shaped.graph, nodes)
    uncounted = Counter(node.operator for node in nodes if node.flops is None)
    ordered = sorted(uncounted.items(), key=lambda entry: (-entry[1], entry[0]))
    share = total.of_integers / total.flops if total.flops else 0.0
    return Work(total.flops, share, tuple(ordered), tuple(nodes))


def _graph_work(shaped: ShapedGraph, graph: onnx.GraphProto, into: list[NodeWork]) -> _Sum:
    total = _Sum()
    integer = nodes_on_integers(graph)
    for number, node in enumerate(graph.node):
        counted = _flops(node, shaped)
        into.append(
            NodeWork(
                name=node.name,
                operator=operator_name(node),
                inputs=tuple(shaped.of(name) for name in node.input),
                outputs=tuple(shaped.of(name) for name in node.output),
                flops=counted,
                is_integer=number in integer,
                scope=_scope(node),
            )
        )
        own = counted or 0
        branches = [_graph_work(shaped, inner, into) for inner in _branches(node)]
        costliest = max(branches, key=lambda each: each.flops, default=_Sum())
        total += _Sum(own, own if number in integer else 0) + costliest
    return total


def _branches(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    return (each.g for each in node.attribute if each.HasField("g"))


def _flops(node: onnx.NodeProto, shaped: ShapedGraph) -> int | None:
    if node.op_type == "If":
        return 0
    found = multiply_adds(node, shaped)
    return None if found is None else OPERATIONS_PER_MULTIPLY_ADD * found


def _scope(node: onnx.NodeProto) -> str:
    """The innermost module of the exporter's note."""
    scopes = module_scopes(node)
    return scopes[-2] if len(scopes) > 1 else ""
