"""Recurrent layers on their way to ONNX.

torch's exporter unrolls LSTM and GRU in its mind to learn their shapes, and so writes the length of its example into
the graph. Here each becomes one call per layer, of the very operator that ONNX has, with the weights as ONNX orders
them (onnx.ai, LSTM and GRU); its shapes are said, not found.
"""

# T tokens, B batch, I inputs, H hidden, N directions, G gates (4 of LSTM, 3 of GRU)

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

_GATES: Final = {"LSTM": ((0, 3, 1, 2), (0, 2, 3, 1)), "GRU": ((1, 0, 2), (1, 0, 2))}
"""Where ONNX's gates stand among torch's, and torch's among ONNX's: i f g o and i o f c, r z n and z r h."""

_State: TypeAlias = tuple[Tensor, Tensor] | Tensor | None


@torch.library.custom_op("mlctl::lstm", mutates_args=())
def lstm(
    x: Tensor, weight: Tensor, recurrence: Tensor, bias: Tensor | None, hidden: Tensor | None, cell: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """ONNX's LSTM: x [T, B, I], weight [N, 4 H, I], recurrence [N, 4 H, H], bias [N, 8 H], states [N, B, H].

    Gives outputs [T, N, B, H], and hidden states and cells [N, B, H] after the last token.
    """
    weights = _torch_weights("LSTM", weight, recurrence, bias)
    zeros = _zeros(x, recurrence)
    begin = (zeros if hidden is None else hidden, zeros if cell is None else cell)
    outputs, *after = torch._VF.lstm(x, begin, weights, bias is not None, 1, 0.0, False, len(recurrence) == 2, False)
    return _by_direction(outputs, recurrence), after[0], after[1]


@torch.library.custom_op("mlctl::gru", mutates_args=())
def gru(
    x: Tensor, weight: Tensor, recurrence: Tensor, bias: Tensor | None, hidden: Tensor | None
) -> tuple[Tensor, Tensor]:
    """ONNX's GRU with linear_before_reset: as `lstm` with three gates, and without cells."""
    weights = _torch_weights("GRU", weight, recurrence, bias)
    begin = _zeros(x, recurrence) if hidden is None else hidden
    outputs, after = torch._VF.gru(x, begin, weights, bias is not None, 1, 0.0, False, len(recurrence) == 2, False)
    return _by_direction(outputs, recurrence), after


@lstm.register_fake
def _(x: Tensor, weight: Tensor, recurrence: Tensor, bias: Any, hidden: Any, cell: Any) -> tuple[Tensor, ...]:
    return _outlines(x, recurrence, 2)


@gru.register_fake
def _(x: Tensor, weight: Tensor, recurrence: Tensor, bias: Any, hidden: Any) -> tuple[Tensor, ...]:
    return _outlines(x, recurrence, 1)


def _outlines(x: Tensor, recurrence: Tensor, states: int) -> tuple[Tensor, ...]:
    directions, _, width = recurrence.shape
    tokens, batch, _ = x.shape
    outputs = x.new_empty(tokens, directions, batch, width)
    return (outputs, *(x.new_empty(directions, batch, width) for _ in range(states)))


def _torch_weights(kind: str, weight: Tensor, recurrence: Tensor, bias: Tensor | None) -> list[Tensor]:
    """Every direction's weights as torch's kernels want them, one after the other."""
    order = _GATES[kind][1]
    found = []
    for number in range(len(weight)):
        parts = [weight[number], recurrence[number]]
        parts += [] if bias is None else bias[number].chunk(2)
        found += [_reordered(each, order) for each in parts]
    return found


def _reordered(parts: Tensor, order: tuple[int, ...]) -> Tensor:
    gates = parts.chunk(len(order))
    return torch.cat([gates[place] for place in order])


def _zeros(x: Tensor, recurrence: Tensor) -> Tensor:
    return x.new_zeros(len(recurrence), x.shape[1], recurrence.shape[2])


def _by_direction(outputs: Tensor, recurrence: Tensor) -> Tensor:
    """From torch's [T, B, N H] to ONNX's [T, N, B, H]."""
    by_direction = outputs.reshape(*outputs.shape[:2], len(recurrence), -1)
    return by_direction.transpose(1, 2).contiguous()


class OnnxRecurrence(nn.Module):
    """What takes the place of an `nn.LSTM` or `nn.GRU` without projection: the same answers, ONNX's operators.

    Weights are `W_l0`, `R_l0` and `B_l0` of the first layer, and so on.
    """

    def __init__(self, original: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.kind = "LSTM" if isinstance(original, nn.LSTM) else "GRU"
        self.layers, self.directions = original.num_layers, 2 if original.bidirectional else 1
        self.batch_first, self.has_bias = original.batch_first, original.bias
        for layer in range(self.layers):
            self.register_buffer(f"W_l{layer}", self._stored(original, f"weight_ih_l{layer}"))
            self.register_buffer(f"R_l{layer}", self._stored(original, f"weight_hh_l{layer}"))
            if self.has_bias:
                both = (self._stored(original, f"bias_{part}_l{layer}") for part in ("ih", "hh"))
                self.register_buffer(f"B_l{layer}", torch.cat(tuple(both), -1))

    def forward(self, x: Tensor, state: _State = None) -> tuple[Tensor, Any]:
        values = x.transpose(0, 1) if self.batch_first else x
        begins = self._begins(state)
        ends = []
        for layer in range(self.layers):
            values, end = self._layer(layer, values, begins[layer])
            ends.append(end)
        outputs = values.transpose(0, 1) if self.batch_first else values
        after = tuple(torch.cat(each) for each in zip(*ends, strict=True))
        return outputs, after if self.kind == "LSTM" else after[0]

    def _begins(self, state: _State) -> list[tuple[Tensor | None, ...]]:
        """The state before the first token, layer by layer."""
        if state is None:
            return [(None,) * (2 if self.kind == "LSTM" else 1)] * self.layers
        parts = (state,) if isinstance(state, Tensor) else state
        return list(zip(*(torch.split(each, self.directions) for each in parts), strict=True))

    def _layer(self, layer: int, x: Tensor, begin: tuple[Tensor | None, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        weights = (getattr(self, f"{part}_l{layer}", None) for part in "WRB")
        operator: Callable[..., Any] = lstm if self.kind == "LSTM" else gru
        outputs, *end = operator(x, *weights, *begin)
        # [T, N, B, H] → [T, B, N H], which the next layer reads.
        merged = outputs.squeeze(1) if self.directions == 1 else outputs.transpose(1, 2).flatten(2)
        return merged, tuple(end)

    def _stored(self, original: nn.Module, name: str) -> Tensor:
        """One of torch's tensors, [G H, ...] for every direction, as [N, G H, ...] with the gates in ONNX's order."""
        names = (name, f"{name}_reverse")[: self.directions]
        order = _GATES[self.kind][0]
        return torch.stack([_reordered(getattr(original, each).detach(), order) for each in names])


@contextmanager
def onnx_recurrence(model: nn.Module) -> Iterator[None]:
    """Within it, OnnxRecurrence stands in for every recurrent layer below `model` that it can take the place of."""
    found = [
        (owner, name, child)
        for owner in model.modules()
        for name, child in owner.named_children()
        if isinstance(child, nn.LSTM | nn.GRU) and not child.proj_size
    ]
    for owner, name, child in found:
        owner._modules[name] = OnnxRecurrence(child).eval()
    try:
        yield
    finally:
        for owner, name, child in found:
            owner._modules[name] = child


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For torch's exporter: what the calls of OnnxRecurrence become."""
    from onnxscript import opset18 as op

    def direction(recurrence: Any) -> str:
        return "bidirectional" if recurrence.shape[0] == 2 else "forward"

    def write_lstm(x: Any, weight: Any, recurrence: Any, bias: Any = None, hidden: Any = None, cell: Any = None) -> Any:
        width = recurrence.shape[-1]
        return op.LSTM(
            x, weight, recurrence, bias, None, hidden, cell, hidden_size=width, direction=direction(recurrence)
        )

    def write_gru(x: Any, weight: Any, recurrence: Any, bias: Any = None, hidden: Any = None) -> Any:
        return op.GRU(
            x,
            weight,
            recurrence,
            bias,
            None,
            hidden,
            hidden_size=recurrence.shape[-1],
            direction=direction(recurrence),
            linear_before_reset=1,
        )

    return {torch.ops.mlctl.lstm.default: write_lstm, torch.ops.mlctl.gru.default: write_gru}
