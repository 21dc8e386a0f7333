"""Weights become integers once, activations anew for every call.

ONNX Runtime's own tool for this writes the model into the system's temporary folder while it works; here nothing is
written anywhere. The operators are those that it writes too, so that its fused kernels apply.
"""

from collections.abc import Mapping

import onnx

from mlctl.compression.quantization.dynamic_nodes import DynamicNodes
from mlctl.compression.quantization.integer_weights import IntegerWeight, WeightForm
from mlctl.compression.quantization.linear_layers import linear_layers
from mlctl.compression.quantization.rewriting import CONTRIBUTED, Rewriting, constants
from mlctl.errors import StepFailed, Unsupported
from mlctl.graphs.inspection import operator_set

_OLDEST_OPSET = 11
"""The first with DynamicQuantizeLinear."""

_TABLE = 65_536
"""Elements from which an embedding is worth it: below, it saves less than 200 kB and costs a node more."""

_SIZES = "qkv_hidden_sizes"
"""An attribute of Attention's, different widths of queries and values, that QAttention lacks."""


class DynamicQuantizer:
    """MatMul, Gemm, LSTM, Attention and large embeddings with integer weights; never convolutions.

    Dynamic convolutions are 5 to 9 times slower than float ones in ONNX Runtime.
    """

    def __init__(self, model: onnx.ModelProto, form: WeightForm, excluded: frozenset[str] = frozenset()) -> None:
        """`model` holds all its data and every node of it has a name; nodes in `excluded` stay float.

        Raises StepFailed when no node is left that could become an integer, Unsupported for an opset below 11.
        """
        if operator_set(model) < _OLDEST_OPSET:
            raise Unsupported(
                f"dynamic quantization needs opset {_OLDEST_OPSET}; this graph has {operator_set(model)}",
                next="export the model again with a newer opset",
            )
        self._model, self._form = model, form
        self._constants = constants(model.graph)
        self._linear = {each.node: each for each in linear_layers(model)}
        self._weights: dict[tuple[str, bool], IntegerWeight] = {}
        able = [node.name for node in model.graph.node if node.name in self._linear or _can(node, self._constants)]
        self._nodes = tuple(name for name in able if name not in excluded)
        if not self._nodes:
            raise StepFailed(
                "no node of this graph can be quantized dynamically: MatMul, Gemm, LSTM and Attention can, and large "
                "embeddings, where their weights are constants and `exclude` does not name them",
                next="choose `method: static` for convolutions, or exclude less",
            )

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that become integers, in the graph's order."""
        return self._nodes

    def quantized(self, kept: frozenset[str] = frozenset()) -> onnx.ModelProto:
        """A new graph with all of `nodes` as integers, but for those in `kept`. Other tensors keep their names."""
        wanted = set(self._nodes) - kept
        rewriting = Rewriting(self._model)
        written = DynamicNodes(rewriting, self._constants, self._weights, self._form)
        for node in self._model.graph.node:
            if node.name in wanted:
                layer = self._linear.get(node.name)
                rewriting.replace(node.name, written.linear(layer) if layer else written.other(node))
        return rewriting.finished()


def _can(node: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether a node that is no linear layer has an integer kernel in ONNX Runtime that takes its place."""
    kind = (node.domain.removeprefix("ai.onnx"), node.op_type)
    attributes = {each.name: each for each in node.attribute}
    if kind == ("", "LSTM"):
        # The integer kernel knows neither another order of dimensions nor other gates than constant ones.
        return _are_weights(node, (1, 2), 3, tensors) and not ("layout" in attributes and attributes["layout"].i)
    if kind == (CONTRIBUTED, "Attention"):
        extra = any(node.input[5:])  # a bias on the scores, or a shared buffer, has no place in QAttention
        return _are_weights(node, (1,), 2, tensors) and bool(node.input[2]) and not extra | (_SIZES in attributes)
    if kind == ("", "Gather"):
        is_by_rows = not ("axis" in attributes and attributes["axis"].i)
        return is_by_rows and _are_weights(node, (0,), 2, tensors) and _size(tensors[node.input[0]]) >= _TABLE
    return False


def _are_weights(
    node: onnx.NodeProto, places: tuple[int, ...], rank: int, tensors: Mapping[str, onnx.TensorProto]
) -> bool:
    found = [tensors.get(node.input[place]) for place in places if place < len(node.input)]
    return len(found) == len(places) and all(
        each is not None and each.data_type == onnx.TensorProto.FLOAT and len(each.dims) == rank for each in found
    )


def _size(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count
