"""ONNX's operators that make one number of several along axes, in torch."""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from mlctl.graphs.torch_operator import Attributes, Operation, Operator, wholes_of

Reducing = Callable[[Tensor, tuple[int, ...], bool], Tensor]
"""Values, axes and whether these stay with size 1, to what is left."""


def _reduction(reducing: Reducing) -> Operator:
    def make(attributes: Attributes) -> Operation:
        keeps, stays = bool(attributes.whole("keepdims", 1)), bool(attributes.whole("noop_with_empty_axes", 0))
        fixed = attributes.wholes("axes")

        def reduced(values: Tensor, asked: Tensor | None = None) -> Tensor:
            axes = fixed if asked is None else wholes_of(asked)
            if not axes and stays:
                return values
            return reducing(values, axes or tuple(range(values.ndim)), keeps)

        return reduced

    return Operator(make, frozenset({1}))


def _product(values: Tensor, axes: tuple[int, ...], keeps: bool) -> Tensor:
    for axis in sorted((each % values.ndim for each in axes), reverse=True):
        values = values.prod(axis, keepdim=keeps)
    return values


def _total(values: Tensor, axes: tuple[int, ...], keeps: bool) -> Tensor:
    return values.sum(axes, keepdim=keeps, dtype=values.dtype)


def _extreme_place(function: Callable[..., Tensor]) -> Operator:
    def make(attributes: Attributes) -> Operation:
        axis, keeps = attributes.whole("axis", 0), bool(attributes.whole("keepdims", 1))
        takes_last = bool(attributes.whole("select_last_index", 0))

        def place(values: Tensor) -> Tensor:
            if not takes_last:
                return function(values, axis, keepdim=keeps)
            return values.shape[axis] - 1 - function(values.flip(axis), axis, keepdim=keeps)

        return place

    return Operator(make)


def _softmax(function: Callable[..., Tensor]) -> Operator:
    def make(attributes: Attributes) -> Operation:
        if attributes.version >= 13:
            axis = attributes.whole("axis", -1)
            return lambda values: function(values, axis)
        first = attributes.whole("axis", 1)

        def over_the_rest(values: Tensor) -> Tensor:
            """Before version 13 all axes from this one on are one."""
            return function(values.flatten(first % values.ndim), -1).reshape(values.shape)

        return over_the_rest

    return Operator(make)


def _cumulative(attributes: Attributes) -> Operation:
    turns, leaves_own_out = bool(attributes.whole("reverse", 0)), bool(attributes.whole("exclusive", 0))

    def summed(values: Tensor, along: Tensor) -> Tensor:
        axis = int(along)
        ordered = values.flip(axis) if turns else values
        sums = ordered.cumsum(axis, dtype=values.dtype)
        sums = sums - ordered if leaves_own_out else sums
        return sums.flip(axis) if turns else sums

    return summed


def _largest(attributes: Attributes) -> Operation:
    axis, takes_largest = attributes.whole("axis", -1), bool(attributes.whole("largest", 1))

    def found(values: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        # Of equal numbers the first comes first, which `torch.topk` does not promise.
        best = torch.sort(values, dim=axis, descending=takes_largest, stable=True)
        return best.values.narrow(axis, 0, int(count)), best.indices.narrow(axis, 0, int(count))

    return found


REDUCTIONS: Final[Mapping[str, Operator]] = {
    "ArgMax": _extreme_place(torch.argmax),
    "ArgMin": _extreme_place(torch.argmin),
    "CumSum": Operator(_cumulative, frozenset({1})),
    "LogSoftmax": _softmax(torch.log_softmax),
    "ReduceL1": _reduction(lambda values, axes, keeps: _total(values.abs(), axes, keeps)),
    "ReduceL2": _reduction(lambda values, axes, keeps: _total(values.square(), axes, keeps).sqrt()),
    "ReduceLogSum": _reduction(lambda values, axes, keeps: _total(values, axes, keeps).log()),
    "ReduceLogSumExp": _reduction(lambda values, axes, keeps: values.logsumexp(axes, keepdim=keeps)),
    "ReduceMax": _reduction(lambda values, axes, keeps: values.amax(axes, keepdim=keeps)),
    "ReduceMean": _reduction(lambda values, axes, keeps: values.mean(axes, keepdim=keeps)),
    "ReduceMin": _reduction(lambda values, axes, keeps: values.amin(axes, keepdim=keeps)),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(_total),
    "ReduceSumSquare": _reduction(lambda values, axes, keeps: _total(values.square(), axes, keeps)),
    "Softmax": _softmax(torch.softmax),
    "TopK": Operator(_largest, frozenset({1})),
}
"""By the operator's name."""
