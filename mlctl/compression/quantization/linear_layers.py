"""The linear layers of a graph, in whatever form an exporter wrote them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from mlctl.compression.quantization.rewriting import constants

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LinearLayer:
    """`output [..., N] = input [..., K] @ weight [K, N] + bias [N]`, one node of a graph.

    `weight` names the constant that holds it, [N, K] where `is_transposed`; `bias` is None where there is none.
    """

    node: str
    input: str
    output: str
    weight: str
    is_transposed: bool
    bias: str | None


def linear_layers(model: onnx.ModelProto) -> tuple[LinearLayer, ...]:
    """Every MatMul and Gemm whose second factor is a constant float32 matrix, in the graph's order.

    The factor may come through a Transpose, as that of a language model's head that shares its embedding does. Gemm
    counts with alpha = beta = 1 and an untransposed first factor, which is what linear layers are exported as.
    """
    matrices = dict(_matrices(model.graph))
    found = []
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or len(node.input) < 2 or node.input[1] not in matrices:
            continue
        weight, is_transposed = matrices[node.input[1]]
        if node.op_type == "MatMul" and node.input[0] not in matrices:
            found.append(LinearLayer(node.name, node.input[0], node.output[0], weight, is_transposed, None))
        elif node.op_type == "Gemm" and _is_plain(node):
            turned = is_transposed != bool(_attribute(node, "transB", 0))
            bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
            found.append(LinearLayer(node.name, node.input[0], node.output[0], weight, turned, bias))
    return tuple(found)


def matrix(layer: LinearLayer, tensors: Mapping[str, onnx.TensorProto]) -> Floats:
    """The layer's weight, float32 [K, N], from the graph's constants."""
    values = numpy_helper.to_array(tensors[layer.weight])
    return np.asarray(values.T if layer.is_transposed else values, np.float32)


def _matrices(graph: onnx.GraphProto) -> Iterator[tuple[str, tuple[str, bool]]]:
    """Names that stand for a constant matrix, with the constant's own name and whether it is turned on the way."""
    tensors = {
        name: each
        for name, each in constants(graph).items()
        if each.data_type == onnx.TensorProto.FLOAT and len(each.dims) == 2 and 0 not in each.dims
    }
    yield from ((name, (name, False)) for name in tensors)
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in tensors:
            yield node.output[0], (node.input[0], _attribute(node, "perm", [1, 0]) == [1, 0])


def _is_plain(node: onnx.NodeProto) -> bool:
    return (
        _attribute(node, "alpha", 1.0) == 1.0
        and _attribute(node, "beta", 1.0) == 1.0
        and not _attribute(node, "transA", 0)
    )


def _attribute(node: onnx.NodeProto, name: str, default: object) -> object:
    value = next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)
    return list(value) if isinstance(value, list | tuple) else value
