"""ONNX's products, normalizations and recurrent layers, in torch."""

# T tokens, B batch, I inputs, H hidden, N directions

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from mlctl.graphs.torch_operator import Attributes, Operation, Operator, plain

_GATES: Final = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}
"""Where torch's gates stand among ONNX's: i f g o among i o f c, and r z n among z r h (onnx.ai, LSTM and GRU)."""


def _product(attributes: Attributes) -> Operation:
    turns = bool(attributes.whole("transA", 0)), bool(attributes.whole("transB", 0))
    alpha, beta = attributes.real("alpha", 1.0), attributes.real("beta", 1.0)

    def multiplied(left: Tensor, right: Tensor, added: Tensor | None = None) -> Tensor:
        if turns == (False, True) and alpha == beta == 1 and (added is None or added.ndim == 1):
            return functional.linear(left, right, added)
        found = (left.T if turns[0] else left) @ (right.T if turns[1] else right)
        found = found if alpha == 1 else alpha * found
        return found if added is None else found + (added if beta == 1 else beta * added)

    return multiplied


def _einsum(attributes: Attributes) -> Operation:
    equation = attributes.text("equation", "")
    return lambda *each: torch.einsum(equation, *each)


def _batch_normalization(attributes: Attributes) -> Operation:
    epsilon = attributes.real("epsilon", 1e-5)
    attributes.require(not attributes.whole("training_mode", 0), "training_mode")

    def normalized(values: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return functional.batch_norm(values, mean, variance, scale, shift, training=False, eps=epsilon)

    return normalized


def _layer_normalization(attributes: Attributes) -> Operation:
    axis, epsilon = attributes.whole("axis", -1), attributes.real("epsilon", 1e-5)
    attributes.require(attributes.outputs == 1, "the mean and deviation as outputs")

    def normalized(values: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
        sizes = values.shape[axis % values.ndim :]
        if scale.shape == sizes and (shift is None or shift.shape == sizes):
            return functional.layer_norm(values, sizes, scale, shift, epsilon)
        found = functional.layer_norm(values, sizes, eps=epsilon) * scale
        return found if shift is None else found + shift

    return normalized


def _root_normalization(attributes: Attributes) -> Operation:
    axis, epsilon = attributes.whole("axis", -1), attributes.real("epsilon", 1e-5)

    def normalized(values: Tensor, scale: Tensor) -> Tensor:
        axes = tuple(range(axis % values.ndim, values.ndim))
        return values * torch.rsqrt(values.square().mean(axes, keepdim=True) + epsilon) * scale

    return normalized


def _instance_normalization(attributes: Attributes) -> Operation:
    epsilon = attributes.real("epsilon", 1e-5)
    return lambda values, scale, shift: functional.instance_norm(values, weight=scale, bias=shift, eps=epsilon)


def _group_normalization(attributes: Attributes) -> Operation:
    groups, epsilon = attributes.whole("num_groups", 1), attributes.real("epsilon", 1e-5)
    attributes.require(attributes.version >= 21, "one scale for a group, as before version 21")
    return lambda values, scale, shift: functional.group_norm(values, groups, scale, shift, epsilon)


def _recurrence(kind: str) -> Operator:
    def make(attributes: Attributes) -> Operation:
        direction = attributes.text("direction", "forward")
        attributes.require(direction in ("forward", "bidirectional"), f"direction {direction}")
        attributes.require(not attributes.has("activations"), "activations of its own")
        attributes.require(not attributes.has("clip") and not attributes.whole("layout", 0), "clip or layout")
        attributes.require(kind == "LSTM" or bool(attributes.whole("linear_before_reset", 0)), "linear_before_reset 0")
        attributes.require(not attributes.whole("input_forget", 0), "input_forget")

        def run(
            x: Tensor,
            weight: Tensor,
            recurrence: Tensor,
            bias: Tensor | None = None,
            lengths: Tensor | None = None,
            hidden: Tensor | None = None,
            cell: Tensor | None = None,
            peepholes: Tensor | None = None,
        ) -> tuple[Tensor, ...]:
            attributes.require(lengths is None and peepholes is None, "lengths or peepholes")
            zeros = x.new_zeros(len(recurrence), x.shape[1], recurrence.shape[2])
            begins = [zeros if each is None else each for each in (hidden, cell)]
            return _ran(kind, x, _torch_weights(kind, weight, recurrence, bias), begins)

        return run

    return Operator(make)


def _ran(kind: str, x: Tensor, weights: list[Tensor], begins: list[Tensor]) -> tuple[Tensor, ...]:
    """Outputs [T, N, B, H], then the states after the last token, [N, B, H] each."""
    directions = len(begins[0])
    has_bias = len(weights) == 4 * directions
    given: tuple[Any, ...] = (weights, has_bias, 1, 0.0, False, directions == 2, False)
    outputs, *after = torch._VF.lstm(x, begins, *given) if kind == "LSTM" else torch._VF.gru(x, begins[0], *given)
    return (outputs.reshape(*outputs.shape[:2], directions, -1).transpose(1, 2), *after)


def _torch_weights(kind: str, weight: Tensor, recurrence: Tensor, bias: Tensor | None) -> list[Tensor]:
    """Every direction's weights as torch's kernels want them, one after the other."""
    order = _GATES[kind]
    found = []
    for number in range(len(weight)):
        parts = [weight[number], recurrence[number], *(() if bias is None else bias[number].chunk(2))]
        for part in parts:
            gates = part.chunk(len(order))
            found.append(torch.cat([gates[place] for place in order]))
    return found


LAYERS: Final[Mapping[str, Operator]] = {
    "BatchNormalization": Operator(_batch_normalization),
    "Einsum": Operator(_einsum),
    "GRU": _recurrence("GRU"),
    "Gemm": Operator(_product),
    "GroupNormalization": Operator(_group_normalization),
    "InstanceNormalization": Operator(_instance_normalization),
    "LSTM": _recurrence("LSTM"),
    "LayerNormalization": Operator(_layer_normalization),
    "MatMul": plain(torch.matmul),
    "RMSNormalization": Operator(_root_normalization),
}
"""By the operator's name."""
