"""Which nodes do their multiply-adds on integers once ONNX Runtime has loaded the graph."""

from collections import defaultdict
from typing import Final

import onnx

_ALWAYS: Final = frozenset(
    {
        "ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat",
        "QAttention", "QGemm", "QLinearConv", "QLinearMatMul",
    }
)  # fmt: skip
_BETWEEN: Final = ("Relu", "Clip")
"""What a QuantizeLinear takes into itself: its lower bound does the same."""
_INT8_ACCURACY: Final = 4
"""MatMulNBits' accuracy_level at which it multiplies in int8 (onnxruntime's ContribOperators.md)."""


def nodes_on_integers(graph: onnx.GraphProto) -> frozenset[int]:
    """The numbers of the nodes that integer kernels run, graphs inside them apart.

    Operators on integers; `MatMulNBits` where it may round its activations; and, as ONNX Runtime's QDQ rules have it,
    `MatMul` and `Gemm` between `DequantizeLinear` on both sides, and `Conv` whose answer is quantized at once too.
    """
    neighbours = _Neighbours(graph)
    return frozenset(number for number, node in enumerate(graph.node) if _is_integer(node, neighbours))


class _Neighbours:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._users[name].append(node)

    def is_dequantized(self, name: str) -> bool:
        return name in self._makers and self._makers[name].op_type == "DequantizeLinear"

    def is_quantized(self, name: str) -> bool:
        after = self._users[name]
        if len(after) == 1 and after[0].op_type in _BETWEEN:
            after = self._users[after[0].output[0]]
        return bool(after) and all(node.op_type == "QuantizeLinear" for node in after)


def _is_integer(node: onnx.NodeProto, neighbours: _Neighbours) -> bool:
    if node.op_type == "MatMulNBits":
        return any(each.name == "accuracy_level" and each.i == _INT8_ACCURACY for each in node.attribute)
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return node.op_type in _ALWAYS
    if not all(map(neighbours.is_dequantized, node.input[:2])):
        return False
    return node.op_type != "Conv" or neighbours.is_quantized(node.output[0])
