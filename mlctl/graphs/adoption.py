"""A graph that was made elsewhere becomes one of the house: raw prepared rows in, the task's answer out."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from mlctl.errors import DataError
from mlctl.graphs.export import BATCH
from mlctl.graphs.fitting import ForeignInput, port_dtype
from mlctl.graphs.inspection import graphs
from mlctl.graphs.naming import FreshNames, name_nodes, rename, rename_uses, replace

OLDEST_OPERATOR_SET = 7
"""The first whose arithmetic broadcasts as NumPy's does; ONNX Runtime runs none before it."""
OLDEST_FORMAT = 4
"""The first IR version in which weights need not be listed among the inputs."""
_OPERATOR_SET = 13
"""For a file that names none of ONNX's own, having operators of other domains alone."""

Ending: TypeAlias = Literal["softmax", "flatten"]


def adopt(model: onnx.ModelProto, inputs: Sequence[ForeignInput], answer: str) -> None:
    """Change `model` in place into a graph of raw prepared rows, in the order of `inputs`, with one output.

    The inputs keep the graph's own names. Scaling stands in front of them, in float32. Weights that callers could
    replace are constants from now on, and every node has a name of its own. The answer is float32. Raises DataError for
    an operator set that nothing runs any more.
    """
    _require_operators(model)
    graph = model.graph
    name_nodes(graph)
    names = FreshNames(model)
    ports = {port.name: port for port in graph.input}
    front: list[onnx.NodeProto] = []
    for each in inputs:
        front += _preprocessing(graph, each, names)
        ports[each.name].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(each.raw.dtype))
    replace(graph.input, [ports[each.name] for each in inputs])
    replace(graph.node, [*front, *graph.node])
    replace(graph.output, [port for port in graph.output if port.name == answer])
    for port in (*graph.input, *graph.output):
        sizes = port.type.tensor_type.shape.dim
        if sizes and not sizes[0].WhichOneof("value"):
            sizes[0].dim_param = BATCH
    if port_dtype(graph.output[0]) != "float32":
        end(model, "float32", answer)


def end(model: onnx.ModelProto, ending: "Ending | Literal['float32']", name: str) -> None:
    """Put what the answer lacks behind it, in place; the output is called `name` afterwards where that is free.

    `softmax` runs over the last axis, `flatten` makes one number of every row, `float32` changes the dtype alone.
    """
    graph, output = model.graph, model.graph.output[0]
    names = FreshNames(model)
    before = str(output.name)
    if name == before:
        before = names.fresh(f"{name}_unfinished")
        rename(graph, name, before)
    else:
        name = names.fresh(name)
    label = f"mlctl/{ending}"
    if ending == "softmax":
        node = helper.make_node("Softmax", [before], [name], names.fresh(label), axis=1)
    elif ending == "flatten":
        shape = names.constant(graph, f"{label}/shape", np.array([-1], np.int64))
        node = helper.make_node("Reshape", [before, shape], [name], names.fresh(label))
        del output.type.tensor_type.shape.dim[1:]
    else:
        node = helper.make_node("Cast", [before], [name], names.fresh(label), to=onnx.TensorProto.FLOAT)
    graph.node.append(node)
    output.name = name
    output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    replace(graph.value_info, [each for each in graph.value_info if each.name != name])


def open_batch(model: onnx.ModelProto, size: int) -> None:
    """Let `model`, whose inputs and outputs begin with `size`, take any number of rows, in place.

    Shapes that were noted for that size go, and reshapes to `size` rows keep the number that comes. Whether
    the graph then answers rightly is for the caller to try.
    """
    graph = model.graph
    for port in (*graph.input, *graph.output):
        sizes = port.type.tensor_type.shape.dim
        if sizes and sizes[0].dim_value == size:
            sizes[0].dim_param = BATCH
    for each in graphs(graph):
        del each.value_info[:]
    names = FreshNames(model)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node if _is_constant(node)}
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[0] not in constants and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]])
            if len(shape) > 1 and shape[0] == size and (shape != 0).all():
                # 0 takes over the size of the tensor that comes (Reshape since operator set 5), unless told otherwise.
                del node.attribute[:]
                opened = np.array([0, *shape[1:]], np.int64)
                node.input[1] = names.constant(graph, f"{node.input[1]}_open", opened)


def _require_operators(model: onnx.ModelProto) -> None:
    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    if versions and versions[0] < OLDEST_OPERATOR_SET:
        raise DataError(
            f"the graph is of operator set {versions[0]}; the oldest that can be run is {OLDEST_OPERATOR_SET}",
            next="export it again with a newer `opset_version`, or convert it with `onnx.version_converter`",
        )
    if not versions:
        model.opset_import.add(domain="", version=_OPERATOR_SET)
    model.ir_version = max(model.ir_version, OLDEST_FORMAT)


class _Front:
    """Nodes that lead from a raw input to what the graph saw before."""

    def __init__(self, graph: onnx.GraphProto, name: str, names: FreshNames) -> None:
        self._graph = graph
        self._label = f"mlctl/{name}"
        self._names = names
        self.result = name
        self.nodes: list[onnx.NodeProto] = []

    def cast(self, dtype: str) -> None:
        """Add a Cast."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._add("Cast").attribute.append(helper.make_attribute("to", kind))

    def apply(self, operator: str, part: str, values: npt.NDArray[np.float32]) -> None:
        """Add a node with a constant on its right side."""
        self._add(operator, self._names.constant(self._graph, f"{self._label}/{part}", values))

    def _add(self, operator: str, *more: str) -> onnx.NodeProto:
        label = f"{self._label}/{operator.lower()}"
        result, name = self._names.fresh(label), self._names.fresh(f"{label}/node")
        node = helper.make_node(operator, [self.result, *more], [result], name)
        self.nodes.append(node)
        self.result = result
        return node


def _preprocessing(graph: onnx.GraphProto, each: ForeignInput, names: FreshNames) -> list[onnx.NodeProto]:
    """The nodes from raw rows to what the graph saw before; none where that is the same."""
    raw, front = each.raw, _Front(graph, each.name, names)
    working = "float32" if raw.is_scaled else each.dtype
    if raw.dtype != working:
        front.cast(working)
    if raw.scale != 1:
        front.apply("Div", "scale", np.array(raw.scale, np.float32))
    along_first_axis = (-1, *(1,) * (len(raw.shape) - 1))
    for operator, part, values in (("Sub", "mean", raw.mean), ("Div", "deviation", raw.deviation)):
        if values:
            front.apply(operator, part, np.array(values, np.float32).reshape(along_first_axis))
    if working != each.dtype:
        front.cast(each.dtype)
    if front.nodes:
        rename_uses(graph, each.name, front.result)
    return front.nodes


def _is_constant(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value"
