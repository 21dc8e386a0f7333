"""What a graph's stored numbers take: bytes by type, and in how many bits its weights lie."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

import onnx

from mlctl.graphs.inspection import dtype_name, function_nodes, graphs, is_array_type, stored_tensors

_BITS: Final[Mapping[int, int]] = {
    onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4, onnx.TensorProto.FLOAT4E2M1: 4,
    onnx.TensorProto.INT2: 2, onnx.TensorProto.UINT2: 2, onnx.TensorProto.FLOAT6E2M3: 6,
    onnx.TensorProto.FLOAT6E3M2: 6,
}  # fmt: skip
"""Types of which several numbers share a byte."""
_FLOATS: Final[frozenset[int]] = frozenset(
    {
        onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.FLOAT8E4M3FN, onnx.TensorProto.FLOAT8E4M3FNUZ, onnx.TensorProto.FLOAT8E5M2,
        onnx.TensorProto.FLOAT8E5M2FNUZ, onnx.TensorProto.FLOAT6E2M3, onnx.TensorProto.FLOAT6E3M2,
        onnx.TensorProto.FLOAT4E2M1,
    }
)  # fmt: skip
_INTEGER_WEIGHTS: Final[Mapping[str, tuple[int, ...]]] = {
    "ConvInteger": (1,), "DequantizeLinear": (0,), "DynamicQuantizeLSTM": (1, 2), "DynamicQuantizeMatMul": (1,),
    "GatherBlockQuantized": (0,), "MatMulInteger": (1,), "MatMulIntegerToFloat": (1,), "MatMulNBits": (1,),
    "QAttention": (1, 2), "QGemm": (3, 6), "QLinearConv": (3, 8), "QLinearMatMul": (3,),
}  # fmt: skip
"""Operators on integers, and which of their inputs are weights."""
_SCALES: Final[Mapping[str, tuple[int, ...]]] = {
    "ConvInteger": (2, 3), "DequantizeLinear": (1, 2), "DynamicQuantizeLSTM": (8, 9, 10, 11),
    "DynamicQuantizeMatMul": (2, 3), "GatherBlockQuantized": (2, 3), "MatMulInteger": (2, 3),
    "MatMulIntegerToFloat": (2, 3, 4, 5), "MatMulNBits": (2, 3, 4), "QAttention": (3, 4, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8), "QLinearAdd": (1, 2, 4, 5, 6, 7), "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7), "QuantizeLinear": (1, 2),
}  # fmt: skip
"""Which inputs say how integers stand for numbers: overhead of the weights, and no weights themselves."""


@dataclass(frozen=True)
class StoredType:
    """All stored tensors of one type: how many, their numbers, and the bytes of those."""

    dtype: str
    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True)
class WeightBits:
    """How many weights lie in that many bits each, as integers or as floating-point numbers."""

    bits: int
    is_integer: bool
    weights: int


def stored_types(model: onnx.ModelProto) -> tuple[StoredType, ...]:
    """What lies in the file by type, the largest first; external data counts."""
    found: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for tensor in stored_tensors(model):
        sums = found[tensor.data_type]
        sums[0] += 1
        sums[1] += prod(tensor.dims)
        sums[2] += _bytes(tensor)
    types = (StoredType(dtype_name(elem_type), *sums) for elem_type, sums in found.items())
    return tuple(sorted(types, key=lambda each: (-each.bytes, each.dtype)))


def weight_bits(model: onnx.ModelProto) -> tuple[WeightBits, ...]:
    """The weights by the bits that each lies in, fewest bits first.

    Floating-point initializers count, and integers that an operator takes for weights, those in packed blocks by the
    operator's own `bits`; scales and zero points do not.
    """
    integers, scales = _roles(model)
    counts: Counter[tuple[int, bool]] = Counter()
    for graph in graphs(model.graph):
        for tensor in graph.initializer:
            if tensor.name in integers and tensor.data_type not in _FLOATS:
                bits, count = _packed(tensor, integers[tensor.name])
                counts[bits, True] += count
            elif tensor.data_type in _FLOATS and tensor.name not in scales:
                counts[_bits(tensor.data_type), False] += prod(tensor.dims)
    return tuple(WeightBits(bits, is_integer, count) for (bits, is_integer), count in sorted(counts.items()))


def weight_count(model: onnx.ModelProto) -> int:
    """All weights, in whatever type each lies: a graph has as many before and after its weights become integers."""
    return sum(each.weights for each in weight_bits(model))


def integer_share(weights: tuple[WeightBits, ...]) -> float:
    """The share of all weights that are stored as integers; 0 where there are no weights."""
    total = sum(each.weights for each in weights)
    return sum(each.weights for each in weights if each.is_integer) / total if total else 0.0


def _roles(model: onnx.ModelProto) -> tuple[dict[str, onnx.NodeProto], set[str]]:
    """The values that are integer weights, with a node that takes them; and those that are scales or zero points."""
    integers: dict[str, onnx.NodeProto] = {}
    scales: set[str] = set()
    for node in (*(node for graph in graphs(model.graph) for node in graph.node), *function_nodes(model)):
        integers |= dict.fromkeys(_named(node, _INTEGER_WEIGHTS), node)
        scales.update(_named(node, _SCALES))
    return integers, scales


def _named(node: onnx.NodeProto, places: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    return (node.input[each] for each in places.get(node.op_type, ()) if each < len(node.input) and node.input[each])


def _packed(tensor: onnx.TensorProto, node: onnx.NodeProto) -> tuple[int, int]:
    """Bits and number of the weights in an integer tensor."""
    numbers = {each.name: each.i for each in node.attribute if each.type == onnx.AttributeProto.INT}
    if node.op_type == "MatMulNBits":
        return int(numbers.get("bits", 4)), int(numbers.get("N", 0) * numbers.get("K", 0))
    stored, count = _bits(tensor.data_type), prod(tensor.dims)
    if node.op_type == "GatherBlockQuantized" and stored == 8:
        bits = int(numbers.get("bits", 4))
        return bits, count * stored // bits
    return stored, count


def _bits(elem_type: int) -> int:
    if elem_type in _BITS:
        return _BITS[elem_type]
    return 8 * int(onnx.helper.tensor_dtype_to_np_dtype(elem_type).itemsize) if is_array_type(elem_type) else 0


def _bytes(tensor: onnx.TensorProto) -> int:
    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    return -(-int(prod(tensor.dims)) * _bits(tensor.data_type) // 8)
