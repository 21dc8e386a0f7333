"""Which of a graph's stored tensors are weights that a training found, and which are constants of the arithmetic."""

from collections.abc import Iterator, Mapping
from typing import Final

import onnx

_PLACES: Final[Mapping[str, tuple[int, ...]]] = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "GRU": (1, 2, 3),
    "Gather": (0,),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
}
"""Inputs at which an operator takes weights, where they are stored."""

_TURNING: Final = frozenset({"DequantizeLinear", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that may stand between a stored weight and who takes it."""

_ROUNDING: Final = frozenset({"DequantizeLinear", "QuantizeLinear"})


def learnt_weights(model: onnx.ModelProto) -> frozenset[str]:
    """The stored tensors, floats or integers that are dequantized, that layers take as weights and biases.

    What is only added or multiplied number by number, such as means of the data, masks and positions, is a constant,
    but for the bias that is added to a product. Tables that are looked up have two axes or more.
    """
    return frozenset(_found(model.graph))


def _found(graph: onnx.GraphProto) -> Iterator[str]:
    stored = {each.name: each for each in graph.initializer}
    origins = {name: name for name in stored}
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in _TURNING and node.input[0] in origins:
            origins[node.output[0]] = origins[node.input[0]]
        for place, name in enumerate(node.input):
            origin = origins.get(name)
            if origin and _is_weight(node, place, stored[origin], makers):
                yield origin


def _is_weight(
    node: onnx.NodeProto, place: int, stored: onnx.TensorProto, makers: Mapping[str, onnx.NodeProto]
) -> bool:
    if node.op_type == "Add":
        other = makers.get(node.input[1 - place])
        while other is not None and other.op_type in _ROUNDING:
            other = makers.get(other.input[0])
        return len(stored.dims) == 1 and other is not None and other.op_type == "MatMul"
    is_table = node.op_type != "Gather" or len(stored.dims) > 1
    return place in _PLACES.get(node.op_type, ()) and is_table
