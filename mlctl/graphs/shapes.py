"""The shape of every value in a graph, once its open dimensions are given sizes. Nothing is run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Final, TypeAlias

import onnx
from onnx import helper
from onnx.inliner import inline_local_functions

from mlctl.graphs.inspection import graphs

Shape: TypeAlias = tuple[int | None, ...] | None
"""Sizes, None where one is not known; None where not even their number is."""

BATCH_SIZE: Final = 1
OPEN_SIZE: Final = 64
"""The size that open dimensions beside the batch are taken to have: a short text, a small image."""

_CONTRIB = "com.microsoft"
_SMALL = 1024
"""Elements of constants whose values may decide a shape; larger ones are weights."""
_LIKE_FIRST_INPUT = frozenset(
    {
        "BiasGelu", "DequantizeLinear", "FastGelu", "Gelu", "LayerNormalization",
        "QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax", "QuantizeLinear", "QuickGelu", "RotaryEmbedding",
        "SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    }
)  # fmt: skip
_SAME_AS = {"FusedConv": "Conv", "FusedGemm": "Gemm", "QLinearAdd": "Add", "QLinearMul": "Mul"}
_OPERANDS = {"QLinearAdd": (0, 3), "QLinearMul": (0, 3)}


@dataclass(frozen=True)
class OpenAxis:
    """An open dimension of the input `value`, at `axis`, where it is called `symbol` (or nothing)."""

    value: str
    axis: int
    symbol: str
    is_batch: bool


@dataclass(frozen=True)
class AssumedSize:
    """A size that was given to an open dimension: of `value`, at `axis`, where it is called `symbol` (or nothing)."""

    value: str
    axis: int
    symbol: str
    size: int


@dataclass(frozen=True)
class ShapedGraph:
    """A graph whose own functions are written out, the shape of every value by name, and what was assumed for it."""

    graph: onnx.GraphProto
    shapes: Mapping[str, Shape]
    assumed: tuple[AssumedSize, ...]

    def of(self, name: str) -> Shape:
        """The shape of the value, or None where nothing is known of it."""
        return self.shapes.get(name)


def shaped(model: onnx.ModelProto, *, open_size: int = OPEN_SIZE) -> ShapedGraph:
    """Shapes for one sample: an open first dimension of an input is the batch and has size 1, others `open_size`.

    Where the first dimension's symbol stands at a later one too, it is not the batch.
    By ONNX's shape inference, which knows ONNX's own operators; of ONNX Runtime's, those that keep a shape or
    multiply matrices are known too. What cannot be inferred is what the file says, or not known.
    """
    whole = _written_out(model)
    light = _without_weights(whole)
    assumed = tuple(
        AssumedSize(each.value, each.axis, each.symbol, BATCH_SIZE if each.is_batch else open_size)
        for each in open_axes(light.graph)
    )
    _settle(light.graph, assumed)
    for graph in graphs(light.graph):
        for node in graph.node:
            _replace_contrib(light.graph, node)
    if all(each.domain not in ("", "ai.onnx") for each in light.opset_import):
        light.opset_import.append(helper.make_opsetid("", onnx.defs.onnx_opset_version()))
    # A graph at odds with itself still has the shapes that its file states.
    with suppress(onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        light = onnx.shape_inference.infer_shapes(light, data_prop=True)
    return ShapedGraph(whole.graph, dict(_stated(light.graph)), assumed)


def open_axes(graph: onnx.GraphProto) -> tuple[OpenAxis, ...]:
    """Every open dimension of the graph's inputs. One that comes first is the batch.

    A symbol that also stands at a later axis, such as a text's length, is no batch where it comes first.
    """
    stored = {tensor.name for tensor in graph.initializer}
    axes = [
        (each.name, number, axis)
        for each in graph.input
        if each.name not in stored
        for number, axis in enumerate(each.type.tensor_type.shape.dim)
        if not axis.HasField("dim_value")
    ]
    later = {axis.dim_param for _, number, axis in axes if number and axis.dim_param}
    return tuple(
        OpenAxis(value, number, axis.dim_param, number == 0 and axis.dim_param not in later)
        for value, number, axis in axes
    )


def known_sizes(shape: Shape) -> tuple[int, ...] | None:
    """The shape where all of it is known, else None."""
    if shape is None:
        return None
    known = tuple(size for size in shape if size is not None)
    return known if len(known) == len(shape) else None


def _written_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own, where they can be written out."""
    # A call that does not fit its function, or leads back to it, stays a call, and its operator uncounted.
    with suppress(onnx.checker.ValidationError, RuntimeError, ValueError):
        return inline_local_functions(model) if model.functions else model
    return model


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that says where large constants would lie and does not hold them."""
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for graph in graphs(light.graph):
        for tensor in graph.initializer:
            if prod(tensor.dims) > _SMALL:
                outline = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
                outline.data_location = onnx.TensorProto.EXTERNAL
                outline.external_data.add(key="location", value="elsewhere")
                tensor.CopyFrom(outline)
    return light


def _settle(graph: onnx.GraphProto, assumed: tuple[AssumedSize, ...]) -> None:
    """Write the sizes into the graph; other open sizes that the file states would stand in inference's way."""
    of_symbol = {each.symbol: each.size for each in assumed if each.symbol}
    of_axis = {(each.value, each.axis): each.size for each in assumed}
    for value in (*graph.input, *graph.value_info, *graph.output):
        for number, axis in enumerate(value.type.tensor_type.shape.dim):
            size = of_axis.get((value.name, number), of_symbol.get(axis.dim_param))
            if size is not None:
                axis.dim_value = size
            elif axis.HasField("dim_param"):
                axis.ClearField("dim_param")


def _replace_contrib(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Put an operator of ONNX with the same shapes in the place of one of ONNX Runtime."""
    if node.domain != _CONTRIB:
        return
    if node.op_type in _LIKE_FIRST_INPUT:
        _become(node, "Identity", list(node.input[:1]), keeps_attributes=False)
    elif node.op_type in _SAME_AS:
        operands = [node.input[number] for number in _OPERANDS.get(node.op_type, range(len(node.input)))]
        _become(node, _SAME_AS[node.op_type], operands, keeps_attributes=node.op_type not in _OPERANDS)
    elif node.op_type in _PRODUCTS and (matrix := _PRODUCTS[node.op_type](graph, node)):
        weight = f"{node.output[0]}/matrix"
        graph.input.append(helper.make_tensor_value_info(weight, onnx.TensorProto.FLOAT, list(matrix)))
        _become(node, "MatMul", [node.input[0], weight], keeps_attributes=False)


def _become(node: onnx.NodeProto, operator: str, inputs: list[str], *, keeps_attributes: bool) -> None:
    kept = [each for each in node.attribute if keeps_attributes and not each.name.startswith("activation")]
    replaced = helper.make_node(operator, inputs, list(node.output[:1]), node.name)
    replaced.attribute.extend(kept)
    node.CopyFrom(replaced)


def _packed_matrix(_: onnx.GraphProto, node: onnx.NodeProto) -> tuple[int, int] | None:
    sizes = {each.name: each.i for each in node.attribute}
    return (sizes["K"], sizes["N"]) if {"K", "N"} <= sizes.keys() else None


def _stored_matrix(graph: onnx.GraphProto, node: onnx.NodeProto) -> tuple[int, int] | None:
    dims = next((tuple(each.dims) for each in graph.initializer if each.name == node.input[1]), ())
    return (dims[0], dims[1]) if len(dims) == 2 else None


_PRODUCTS: Final[dict[str, Callable[[onnx.GraphProto, onnx.NodeProto], tuple[int, int] | None]]] = {
    "MatMulNBits": _packed_matrix,
    "DynamicQuantizeMatMul": _stored_matrix,
    "MatMulIntegerToFloat": _stored_matrix,
}
"""Products whose second matrix is a weight, and how to find its rows and columns."""


def _stated(graph: onnx.GraphProto) -> Iterator[tuple[str, Shape]]:
    for each in graphs(graph):
        for tensor in each.initializer:
            yield tensor.name, tuple(tensor.dims)
        for value in (*each.input, *each.value_info, *each.output):
            of_tensor = value.type.tensor_type
            if of_tensor.HasField("shape"):
                sizes = (axis.dim_value if axis.HasField("dim_value") else None for axis in of_tensor.shape.dim)
                yield value.name, tuple(sizes)
