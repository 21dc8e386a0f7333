"""The element type of every tensor of a graph, from the operators' schemas alone: no weights are read or copied."""

from collections.abc import Iterable
from typing import Final

import onnx
from onnx import TensorProto, defs

from mlctl.compression.quantization.rewriting import CONTRIBUTED
from mlctl.graphs.inspection import operator_set

SAME_TYPE: Final = frozenset(
    {
        "Attention",
        "BiasGelu",
        "FastGelu",
        "FusedMatMul",
        "Gelu",
        "MultiHeadAttention",
        "QuickGelu",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)
"""Operators of ONNX Runtime's whose outputs have the type of their first input, which may be float16."""

_NAMES: Final = frozenset(TensorProto.DataType.keys())

_BY_ATTRIBUTE: Final = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "RandomUniform": "dtype"}


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The `TensorProto.DataType` of each tensor of the main graph by name; tensors that nothing tells are left out."""
    known = {each.name: each.data_type for each in model.graph.initializer}
    known.update(_declared((*model.graph.input, *model.graph.output, *model.graph.value_info)))
    version = operator_set(model)
    for node in model.graph.node:
        for name, found in zip(node.output, _outputs(node, version, known), strict=False):
            if name and found is not None:
                known[name] = found
    return known


def schema(node: onnx.NodeProto, version: int) -> defs.OpSchema | None:
    """The schema of an operator of ONNX's own, None for others and for those that this release does not know."""
    if node.domain not in ("", "ai.onnx") or not defs.has(node.op_type, ""):
        return None
    try:
        return defs.get_schema(node.op_type, version, "")
    except defs.SchemaError:
        return None


def formal(parameters: Iterable[defs.OpSchema.FormalParameter], place: int) -> defs.OpSchema.FormalParameter:
    """The parameter at a place; the last one stands for all that follow, where it may be repeated."""
    listed = tuple(parameters)
    return listed[min(place, len(listed) - 1)]


def _outputs(node: onnx.NodeProto, version: int, known: dict[str, int]) -> list[int | None]:
    if node.op_type in _BY_ATTRIBUTE:
        name = _BY_ATTRIBUTE[node.op_type]
        return [next((each.i for each in node.attribute if each.name == name), None)]
    if node.op_type in ("Constant", "ConstantOfShape"):
        return [next((each.t.data_type for each in node.attribute if each.name == "value"), TensorProto.FLOAT)]
    if node.domain == CONTRIBUTED and node.op_type in SAME_TYPE:
        return [known.get(node.input[0])] * len(node.output)
    described = schema(node, version)
    if described is None:
        return []
    variables = {
        formal(described.inputs, place).type_str: known[name] for place, name in enumerate(node.input) if name in known
    }
    results = [formal(described.outputs, place) for place in range(len(node.output))]
    return [variables.get(each.type_str, _only(each)) for each in results]


def _only(parameter: defs.OpSchema.FormalParameter) -> int | None:
    """The one type that a parameter may have, such as Shape's `tensor(int64)`; None where it may have several."""
    names = [each.removeprefix("tensor(").removesuffix(")").upper() for each in parameter.types]
    return TensorProto.DataType.Value(names[0]) if len(names) == 1 and names[0] in _NAMES else None


def _declared(ports: Iterable[onnx.ValueInfoProto]) -> dict[str, int]:
    return {each.name: each.type.tensor_type.elem_type for each in ports if each.type.tensor_type.elem_type != 0}
