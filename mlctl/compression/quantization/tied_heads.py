"""Weights that a graph turns before it multiplies by them, as a head does that shares its embedding's."""

import numpy as np
import onnx
from onnx import helper, numpy_helper


def store_turned(model: onnx.ModelProto) -> None:
    """Store every constant matrix that a Transpose turns for a MatMul as that needs it, in place.

    Tensors keep their names: what the Transpose gave is an initializer then. Of a matrix whose data are not there, the
    sizes are turned. The embedding itself stays for those who look rows up in it.
    """
    graph = model.graph
    weights = {each.name: each for each in graph.initializer if len(each.dims) == 2}
    factors = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
    turning = [
        node
        for node in graph.node
        if node.op_type == "Transpose" and node.input[0] in weights and node.output[0] in factors and _swaps(node)
    ]
    for node in turning:
        graph.initializer.append(_turned(weights[node.input[0]], node.output[0]))
        graph.node.remove(node)
    read = {name for node in graph.node for name in node.input} | {port.name for port in graph.output}
    for name in {node.input[0] for node in turning} - read:
        graph.initializer.remove(weights[name])


def _swaps(node: onnx.NodeProto) -> bool:
    # Without `perm` all axes change places, too.
    return all(list(helper.get_attribute_value(each)) == [1, 0] for each in node.attribute if each.name == "perm")


def _turned(weight: onnx.TensorProto, name: str) -> onnx.TensorProto:
    if weight.HasField("raw_data") or weight.float_data:
        return numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(weight).T), name)
    return onnx.TensorProto(name=name, data_type=weight.data_type, dims=reversed(weight.dims))
