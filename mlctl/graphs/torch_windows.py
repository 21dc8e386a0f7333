"""ONNX's convolutions and poolings, in torch."""

# B batch, C channels, S the axes of space

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor
from torch.nn import functional

from mlctl.graphs.torch_operator import Attributes, Operation, Operator, plain

_CONVOLUTIONS: Final = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}
_TRANSPOSED: Final = {3: functional.conv_transpose1d, 4: functional.conv_transpose2d, 5: functional.conv_transpose3d}
_LARGEST: Final[dict[int, Callable[..., Tensor]]] = {
    3: functional.max_pool1d,
    4: functional.max_pool2d,
    5: functional.max_pool3d,
}
_MEANS: Final[dict[int, Callable[..., Tensor]]] = {
    3: functional.avg_pool1d,
    4: functional.avg_pool2d,
    5: functional.avg_pool3d,
}

Pads = tuple[tuple[int, int], ...]
"""Before and after, for every axis of space."""


@dataclass(frozen=True)
class Window:
    """How a window moves over the axes of space: every tuple has one number for each, or is empty for the default."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    automatic: str
    rounds_up: bool

    @classmethod
    def of(cls, attributes: Attributes) -> Self:
        """As a node says it."""
        return cls(
            attributes.wholes("strides"),
            attributes.wholes("dilations"),
            attributes.wholes("pads"),
            attributes.text("auto_pad", "NOTSET"),
            bool(attributes.whole("ceil_mode", 0)),
        )

    def steps(self, axes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Strides and dilations along so many axes."""
        return self.strides or (1,) * axes, self.dilations or (1,) * axes

    def padding(self, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> Pads:
        """What stands around values of these sizes."""
        if self.automatic in ("NOTSET", "VALID"):
            pads = self.pads if self.automatic == "NOTSET" and self.pads else (0,) * 2 * len(sizes)
            return tuple(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
        strides, dilations = self.steps(len(sizes))
        found = []
        for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
            windows = -(-size // stride)
            whole = max(0, (windows - 1) * stride + (width - 1) * dilation + 1 - size)
            less, more = whole // 2, whole - whole // 2
            found.append((less, more) if self.automatic == "SAME_UPPER" else (more, less))
        return tuple(found)


def _begun_within(found: Tensor, sizes: tuple[int, ...], pads: Pads, strides: tuple[int, ...]) -> Tensor:
    """What windows [B, C, S] give without those that begin behind the values of these sizes.

    ONNX has none of them. Neither has torch, but it takes pads that were put around beforehand for values.
    """
    counts = (-(-(size + before) // stride) for size, (before, _), stride in zip(sizes, pads, strides, strict=True))
    return found[(slice(None), slice(None), *(slice(count) for count in counts))]


def _flat(pads: Pads) -> list[int]:
    """As torch wants them: the last axis first."""
    return [size for both in reversed(pads) for size in both]


def _even(pads: Pads) -> tuple[int, ...] | None:
    """One number for every axis, where both sides have the same."""
    return tuple(before for before, _ in pads) if all(before == after for before, after in pads) else None


def _convolution(attributes: Attributes) -> Operation:
    window, groups = Window.of(attributes), attributes.whole("group", 1)

    def convolved(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        axes = values.ndim - 2
        strides, dilations = window.steps(axes)
        pads = window.padding(tuple(values.shape[2:]), tuple(weight.shape[2:]))
        even = _even(pads)
        if even is None:
            values, even = functional.pad(values, _flat(pads)), (0,) * axes
        return _CONVOLUTIONS[values.ndim](values, weight, bias, strides, even, dilations, groups)

    return convolved


def _transposed_convolution(attributes: Attributes) -> Operation:
    window, groups = Window.of(attributes), attributes.whole("group", 1)
    more = attributes.wholes("output_padding")
    attributes.require(window.automatic in ("NOTSET", "VALID"), f"auto_pad {window.automatic}")
    attributes.require(not attributes.has("output_shape"), "output_shape")

    def convolved(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        axes = values.ndim - 2
        strides, dilations = window.steps(axes)
        pads, beyond = window.padding(tuple(values.shape[2:]), tuple(weight.shape[2:])), more or (0,) * axes
        even = _even(pads)
        kernel = _TRANSPOSED[values.ndim]
        if even is not None:
            return kernel(values, weight, bias, strides, even, beyond, groups, dilations)
        whole = kernel(values, weight, bias, strides, (0,) * axes, beyond, groups, dilations)
        return functional.pad(whole, [-size for size in _flat(pads)])

    return convolved


def _max_pool(attributes: Attributes) -> Operation:
    window, kernel = Window.of(attributes), attributes.wholes("kernel_shape")
    attributes.require(attributes.outputs == 1, "the places of the largest")

    def pooled(values: Tensor) -> Tensor:
        sizes = tuple(values.shape[2:])
        strides, dilations = window.steps(len(kernel))
        pads = window.padding(sizes, kernel)
        even = _even(pads)
        if even is None or any(2 * each > width for each, width in zip(even, kernel, strict=True)):
            values, even = functional.pad(values, _flat(pads), value=-torch.inf), (0,) * len(kernel)
        found = _LARGEST[values.ndim](values, kernel, strides, even, dilations, window.rounds_up)
        return _begun_within(found, sizes, pads, strides)

    return pooled


def _mean_pool(attributes: Attributes) -> Operation:
    window, kernel = Window.of(attributes), attributes.wholes("kernel_shape")
    counts_pads = bool(attributes.whole("count_include_pad", 0))
    attributes.require(all(each == 1 for each in window.dilations), "dilations")

    def pooled(values: Tensor) -> Tensor:
        sizes = tuple(values.shape[2:])
        strides, _ = window.steps(len(kernel))
        pads = window.padding(sizes, kernel)
        even, pool = _even(pads), _MEANS[values.ndim]
        if even is not None and all(2 * each <= width for each, width in zip(even, kernel, strict=True)):
            return pool(values, kernel, strides, even, window.rounds_up, counts_pads)
        found = pool(functional.pad(values, _flat(pads)), kernel, strides, 0, window.rounds_up)
        if not counts_pads:
            # A mean over the window, over the mean of what of it lies within.
            inside = functional.pad(torch.ones_like(values[:1, :1]), _flat(pads))
            found = found / pool(inside, kernel, strides, 0, window.rounds_up)
        return _begun_within(found, sizes, pads, strides)

    return pooled


def _over_space(values: Tensor) -> tuple[int, ...]:
    return tuple(range(2, values.ndim))


WINDOWS: Final[Mapping[str, Operator]] = {
    "AveragePool": Operator(_mean_pool),
    "Conv": Operator(_convolution),
    "ConvTranspose": Operator(_transposed_convolution),
    "GlobalAveragePool": plain(lambda values: values.mean(_over_space(values), keepdim=True)),
    "GlobalMaxPool": plain(lambda values: values.amax(_over_space(values), keepdim=True)),
    "MaxPool": Operator(_max_pool),
}
"""By the operator's name."""
