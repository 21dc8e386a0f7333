"""Names inside a graph: of values that are renamed, and of nodes that have none."""

from collections import Counter
from typing import Any

import numpy.typing as npt
import onnx
from onnx import numpy_helper

from mlctl.graphs.inspection import graphs


class FreshNames:
    """Names that nothing in the model has yet."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._taken: set[str] = set()
        for graph in graphs(model.graph):
            self._taken |= {each.name for part in (graph.initializer, graph.input, graph.output) for each in part}
            for node in graph.node:
                self._taken |= {node.name, *node.input, *node.output}

    def fresh(self, wanted: str) -> str:
        """`wanted`, or with a number behind it."""
        name, number = wanted, 1
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name

    def constant(self, graph: onnx.GraphProto, wanted: str, values: npt.NDArray[Any]) -> str:
        """The name of a new initializer with these values."""
        name = self.fresh(wanted)
        graph.initializer.append(numpy_helper.from_array(values, name))
        return name


def rename_uses(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Let every node that reads `old`, in graphs inside nodes too, read `new`: a name has one meaning in all."""
    for inner in graphs(graph):
        for node in inner.node:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Call the value `old` that a node of the graph makes `new`."""
    rename_uses(graph, old, new)
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == old:
                node.output[index] = new


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node that has no name, or another one's, a name of its own."""
    counts = Counter(node.name for inner in graphs(graph) for node in inner.node)
    taken = set(counts)
    for node in (node for inner in graphs(graph) for node in inner.node):
        if node.name and counts[node.name] == 1:
            continue
        counts[node.name] -= 1
        base, number = node.name or node.op_type, 0
        while f"{base}_{number}" in taken:
            number += 1
        node.name = f"{base}_{number}"
        taken.add(node.name)


def replace(parts: Any, wanted: list[Any]) -> None:
    """Let a repeated field of a protobuf message hold `wanted`, which may be some of its own messages."""
    copies = [type(each).FromString(each.SerializeToString()) for each in wanted]
    del parts[:]
    parts.extend(copies)
