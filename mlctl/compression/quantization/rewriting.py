"""A graph in which nodes are replaced by others, while every tensor that the rest reads keeps its name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from mlctl.graphs.cutting import needed_nodes, reads
from mlctl.graphs.inspection import graphs

CONTRIBUTED = "com.microsoft"
"""The domain of operators that ONNX Runtime has and ONNX has not."""


class Rewriting:
    """What shall become of a float graph, which is read and never changed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._replacements: dict[str, Sequence[onnx.NodeProto]] = {}
        self._stored: dict[str, onnx.TensorProto] = {}
        self._taken = _names(model.graph)

    def name(self, wish: str) -> str:
        """A tensor's name that nothing in the graph has yet: `wish`, or `wish_2`, `wish_3` and so on."""
        name, number = wish, 1
        while name in self._taken:
            number += 1
            name = f"{wish}_{number}"
        self._taken.add(name)
        return name

    def store(self, wish: str, values: npt.NDArray[Any]) -> str:
        """A new initializer with these values; its name."""
        name = self.name(wish)
        self._stored[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def replace(self, node: str, by: Sequence[onnx.NodeProto]) -> None:
        """Put other nodes in the place of the node of this name; they give all of its outputs that are used."""
        self._replacements[node] = by

    def finished(self) -> onnx.ModelProto:
        """The new model: without the nodes and initializers that nothing uses any more."""
        model: onnx.ModelProto = without(self._model, {"graph"})
        model.graph.CopyFrom(without(self._model.graph, {"node", "initializer", "value_info", "input"}))
        graph = model.graph
        nodes = [new for old in self._model.graph.node for new in self._replacements.get(old.name, (old,))]
        alive = needed_nodes(nodes, [port.name for port in graph.output])
        graph.node.extend(alive)
        read = {name for node in alive for name in reads(node)} | {port.name for port in graph.output}
        kept = [each for each in self._model.graph.initializer if each.name in read]
        graph.initializer.extend([*kept, *(each for each in self._stored.values() if each.name in read)])
        dropped = {each.name for each in self._model.graph.initializer} - read
        # Graphs of ONNX's first years list their initializers among the inputs too.
        graph.input.extend(port for port in self._model.graph.input if port.name not in dropped)
        made = {name for node in alive for name in node.output}
        graph.value_info.extend(each for each in self._model.graph.value_info if each.name in made)
        _import_contributed(model)
        return model


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The tensors that never change, by name: initializers, and what Constant nodes hold as a tensor."""
    found = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain == "":
            found.update((node.output[0], each.t) for each in node.attribute if each.name == "value")
    return found


def without(message: Any, fields: set[str]) -> Any:
    """A copy of a protobuf message without some of its fields; weights would be copied for nothing."""
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name in fields:
            continue
        if isinstance(value, str | bytes | int | float):
            setattr(copy, field.name, value)
        elif hasattr(value, "CopyFrom"):
            getattr(copy, field.name).CopyFrom(value)
        else:
            getattr(copy, field.name).extend(value)
    return copy


def _import_contributed(model: onnx.ModelProto) -> None:
    is_used = any(node.domain == CONTRIBUTED for node in model.graph.node)
    if is_used and all(each.domain != CONTRIBUTED for each in model.opset_import):
        model.opset_import.add(domain=CONTRIBUTED, version=1)


def _names(graph: onnx.GraphProto) -> set[str]:
    return {
        name
        for each in graphs(graph)
        for name in (
            *(port.name for port in (*each.input, *each.output, *each.initializer)),
            *(name for node in each.node for name in (*node.input, *node.output)),
        )
    }
