"""How many multiply-adds one node does, from its shapes.

Only convolutions, matrix products and recurrences are counted, as `torch.utils.flop_counter` counts; what works number
by number (activations, norms, pooling) has none by this convention.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Final, TypeAlias

import onnx

from mlctl.graphs.shapes import ShapedGraph, known_sizes
from mlctl.graphs.without_products import WITHOUT_PRODUCTS

_OURS = ("", "ai.onnx", "com.microsoft")


class _NotKnownError(Exception):
    """A shape or an attribute that the count needs is not known."""


@dataclass(frozen=True)
class _Operation:
    """A node with the sizes of what it takes and gives. Asking for what is not known raises _NotKnownError."""

    node: onnx.NodeProto
    shaped: ShapedGraph

    def taken(self, place: int) -> tuple[int, ...]:
        if not self.has(place):
            raise _NotKnownError
        return self._sizes(self.node.input[place])

    @property
    def given(self) -> tuple[int, ...]:
        return self._sizes(self.node.output[0])

    def has(self, place: int) -> bool:
        return place < len(self.node.input) and bool(self.node.input[place])

    def number(self, name: str, default: int = 0) -> int:
        return next((int(each.i) for each in self.node.attribute if each.name == name), default)

    def text(self, name: str) -> str:
        return next((each.s.decode(errors="replace") for each in self.node.attribute if each.name == name), "")

    def _sizes(self, name: str) -> tuple[int, ...]:
        found = known_sizes(self.shaped.of(name))
        if found is None:
            raise _NotKnownError
        return found


_Rule: TypeAlias = Callable[[_Operation], int]


def multiply_adds(node: onnx.NodeProto, shaped: ShapedGraph) -> int | None:
    """The multiply-adds of one node, those of graphs inside it apart; None where no rule or no shape is known."""
    if node.domain not in _OURS:
        return None
    if node.op_type in WITHOUT_PRODUCTS:
        return 0
    if node.op_type not in _RULES:
        return None
    try:
        return _RULES[node.op_type](_Operation(node, shaped))
    except _NotKnownError:
        return None


def _convolution(weight: int) -> _Rule:
    # Every number of the answer sums over the kernel and the channels of its group: W is [M, C/group, *kernel].
    return lambda operation: prod(operation.given) * prod(operation.taken(weight)[1:])


def _transposed_convolution(operation: _Operation) -> int:
    # Every number of the input is spread over the kernel and the channels of its group: W is [C, M/group, *kernel].
    return prod(operation.taken(0)) * prod(operation.taken(1)[1:])


def _product(operation: _Operation) -> int:
    first = operation.taken(0)
    inner = first[-2 if operation.number("transA") and len(first) > 1 else -1] if first else 1
    return prod(operation.given) * inner


def _product_of_packed(operation: _Operation) -> int:
    return prod(operation.taken(0)) * operation.number("N")


def _recurrence(operation: _Operation) -> int:
    # X [T, B, I] or [B, T, I]; every step multiplies W and R of all gates and directions with one row.
    return prod(operation.taken(0)[:2]) * (prod(operation.taken(1)) + prod(operation.taken(2)))


def _einsum(operation: _Operation) -> int:
    terms = operation.text("equation").replace(" ", "").partition("->")[0].split(",")
    if len(terms) != 2 or any("." in term for term in terms):
        raise _NotKnownError
    sizes = {
        letter: size
        for place, term in enumerate(terms)
        for letter, size in zip(term, operation.taken(place), strict=False)
    }
    return prod(sizes.values())


def _attention(operation: _Operation) -> int:
    # Scores take one multiply-add for every number of Q [..., T, d] and every key, and answers the same once more.
    keys = operation.taken(1)[-2]
    past = operation.taken(4)[-2] if operation.has(4) else 0
    return (prod(operation.taken(0)) + prod(operation.given)) * (keys + past)


def _multi_head_attention(operation: _Operation) -> int:
    # Its three inputs are [B, T, H·d] unless they are packed, or hold a past.
    if any(len(operation.taken(place)) != 3 for place in (0, 1, 2)) or operation.has(6):
        raise _NotKnownError
    return (prod(operation.taken(0)) + prod(operation.given)) * operation.taken(1)[1]


def _fused_attention(past: int) -> _Rule:
    def count(operation: _Operation) -> int:
        # X [B, T, I] times W [I, 3·D], then scores and answers over T keys.
        rows, weight = operation.taken(0), operation.taken(1)
        if len(rows) != 3 or operation.has(past) or 3 * operation.given[-1] != weight[1]:
            raise _NotKnownError
        return prod(rows) * weight[1] + 2 * prod(operation.given) * rows[1]

    return count


def _any_attention(operation: _Operation) -> int:
    is_fused = operation.node.domain == "com.microsoft"
    return _fused_attention(past=4)(operation) if is_fused else _attention(operation)


_RULES: Final[dict[str, _Rule]] = {
    "Attention": _any_attention,
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "ConvTranspose": _transposed_convolution,
    "DynamicQuantizeLSTM": _recurrence,
    "DynamicQuantizeMatMul": _product,
    "Einsum": _einsum,
    "FusedConv": _convolution(1),
    "FusedGemm": _product,
    "FusedMatMul": _product,
    "GRU": _recurrence,
    "Gemm": _product,
    "LSTM": _recurrence,
    "MatMul": _product,
    "MatMulInteger": _product,
    "MatMulIntegerToFloat": _product,
    "MatMulNBits": _product_of_packed,
    "MultiHeadAttention": _multi_head_attention,
    "QAttention": _fused_attention(past=8),
    "QGemm": _product,
    "QLinearConv": _convolution(3),
    "QLinearMatMul": _product,
    "RNN": _recurrence,
}
