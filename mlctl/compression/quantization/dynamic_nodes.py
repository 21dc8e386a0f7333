"""The integer operators that take the place of float ones, where ranges are found anew for every call."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mlctl.compression.quantization.integer_weights import IntegerWeight, WeightForm, integer_weight
from mlctl.compression.quantization.linear_layers import LinearLayer, matrix
from mlctl.compression.quantization.rewriting import CONTRIBUTED, Rewriting

_LSTM_INPUTS = 8
"""X, W, R, B, sequence_lens, initial_h, initial_c, P; the integer kernel's scales and zero points follow."""


class DynamicNodes:
    """The operators of one graph. Whatever reads the same activation or the same weight shares its integers."""

    def __init__(
        self,
        rewriting: Rewriting,
        tensors: Mapping[str, onnx.TensorProto],
        weights: dict[tuple[str, bool], IntegerWeight],
        form: WeightForm,
    ) -> None:
        """`tensors` holds the graph's constants; `weights` remembers integers from one graph to the next."""
        self._rewriting, self._constants, self._weights, self._form = rewriting, tensors, weights, form
        self._activations: dict[str, list[str]] = {}
        self._stored: dict[tuple[str, bool], list[str]] = {}

    def linear(self, layer: LinearLayer) -> list[onnx.NodeProto]:
        """A linear layer, in the pattern that ONNX Runtime fuses into one kernel."""
        values, scale, zero_point = self._weight(
            (layer.weight, layer.is_transposed),
            lambda: integer_weight(matrix(layer, self._constants), self._form),
        )
        new, (x, x_scale, x_zero_point) = self._activation(layer.node, layer.input)
        counted, real, scales = (self._rewriting.name(f"{layer.node}_{what}") for what in ("integer", "real", "scales"))
        product = self._rewriting.name(f"{layer.node}_product") if layer.bias else layer.output
        new += [
            helper.make_node("MatMulInteger", [x, values, x_zero_point, zero_point], [counted], layer.node),
            helper.make_node("Cast", [counted], [real], f"{layer.node}_cast", to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [x_scale, scale], [scales], f"{layer.node}_scales"),
            helper.make_node("Mul", [real, scales], [product], f"{layer.node}_scaled"),
        ]
        if layer.bias:
            new.append(helper.make_node("Add", [product, layer.bias], [layer.output], f"{layer.node}_bias"))
        return new

    def other(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """An LSTM, an Attention of ONNX Runtime's, or a Gather of rows."""
        writers = {"LSTM": self._lstm, "Attention": self._attention, "Gather": self._gather}
        return writers[node.op_type](node)

    def _lstm(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        inputs = [*node.input, *[""] * (_LSTM_INPUTS - len(node.input))]
        for place in (1, 2):
            name = node.input[place]
            inputs[place], scale, zero_point = self._weight((name, True), partial(self._gates, name))
            inputs += [scale, zero_point]
        written = helper.make_node("DynamicQuantizeLSTM", inputs, list(node.output), node.name, domain=CONTRIBUTED)
        written.attribute.extend(each for each in node.attribute if each.name != "layout")
        return [written]

    def _gates(self, name: str) -> IntegerWeight:
        """From [directions, 4 H, K], as LSTM keeps its gates, to [directions, K, 4 H], as the integer kernel does."""
        turned = np.swapaxes(numpy_helper.to_array(self._constants[name]), 1, 2)
        parts = [integer_weight(each, self._form) for each in turned]
        return IntegerWeight(
            np.stack([each.values for each in parts]),
            np.stack([each.scales for each in parts]),
            np.stack([each.zero_points for each in parts]),
        )

    def _attention(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        weight = numpy_helper.to_array(self._constants[node.input[1]])
        values, scale, zero_point = self._weight((node.input[1], False), lambda: integer_weight(weight, self._form))
        new, (x, x_scale, x_zero_point) = self._activation(node.name, node.input[0])
        mask, past = [*node.input, "", ""][3:5]
        inputs = [x, values, node.input[2], x_scale, scale, mask, x_zero_point, zero_point, past]
        written = helper.make_node("QAttention", inputs, list(node.output), node.name, domain=CONTRIBUTED)
        written.attribute.extend(node.attribute)
        return [*new, written]

    def _gather(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Rows of small integers, then floats: ONNX Runtime would repeat a DequantizeLinear behind every reader."""
        table = numpy_helper.to_array(self._constants[node.input[0]])
        form = WeightForm(is_per_channel=self._form.is_per_channel)  # nothing multiplies integers: nothing saturates
        weight = integer_weight(table, form)
        values = self._rewriting.store(f"{node.input[0]}_rows", weight.values)
        scale = self._rewriting.store(f"{node.input[0]}_rows_scale", weight.scales)
        rows, real = (self._rewriting.name(f"{node.name}_{what}") for what in ("rows", "real"))
        return [
            helper.make_node("Gather", [values, node.input[1]], [rows], node.name, axis=0),
            helper.make_node("Cast", [rows], [real], f"{node.name}_cast", to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [real, scale], list(node.output), f"{node.name}_scaled"),
        ]

    def _activation(self, node: str, tensor: str) -> tuple[list[onnx.NodeProto], list[str]]:
        if tensor in self._activations:
            return [], self._activations[tensor]
        parts = [self._rewriting.name(f"{tensor}_{what}") for what in ("quantized", "scale", "zero_point")]
        self._activations[tensor] = parts
        return [helper.make_node("DynamicQuantizeLinear", [tensor], parts, f"{node}_quantize")], parts

    def _weight(self, key: tuple[str, bool], make: Callable[[], IntegerWeight]) -> list[str]:
        """Names of the integers, the scales and the zero points of the constant that `key` names, turned or not."""
        if key not in self._weights:
            self._weights[key] = make()
        if key not in self._stored:
            weight, name = self._weights[key], f"{key[0]}_transposed" if key[1] else key[0]
            parts = (("quantized", weight.values), ("scale", weight.scales), ("zero_point", weight.zero_points))
            self._stored[key] = [self._rewriting.store(f"{name}_{what}", values) for what, values in parts]
        return self._stored[key]
