"""ONNX's operators that put numbers into another shape, in torch."""

from collections.abc import Mapping
from math import prod
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from mlctl.graphs.torch_operator import Attributes, Operation, Operator, plain, wholes_of

_MODES: Final = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}


def _shape(attributes: Attributes) -> Operation:
    start, end = attributes.whole("start", 0), attributes.whole("end", 1 << 30)
    # On the host: what follows from it says how to compute, and nothing waits for the device.
    return lambda values: torch.tensor(values.shape[start:end], dtype=torch.int64)


def _reshape(attributes: Attributes) -> Operation:
    keeps_zeros = bool(attributes.whole("allowzero", 0))

    def reshaped(values: Tensor, shape: Tensor) -> Tensor:
        asked = wholes_of(shape)
        sizes = asked if keeps_zeros else [each or values.shape[axis] for axis, each in enumerate(asked)]
        return values.reshape(tuple(sizes))

    return reshaped


def _flatten(attributes: Attributes) -> Operation:
    axis = attributes.whole("axis", 1)

    def flattened(values: Tensor) -> Tensor:
        first = axis % values.ndim if axis != values.ndim else axis
        return values.reshape(prod(values.shape[:first]), -1) if values.numel() else values.flatten(first)

    return flattened


def _transpose(attributes: Attributes) -> Operation:
    order = attributes.wholes("perm")
    return lambda values: values.permute(order or tuple(reversed(range(values.ndim))))


def _squeeze(attributes: Attributes) -> Operation:
    fixed = attributes.wholes("axes")

    def squeezed(values: Tensor, asked: Tensor | None = None) -> Tensor:
        axes = fixed if asked is None else wholes_of(asked)
        return values.squeeze(axes) if axes else values.squeeze()

    return squeezed


def _unsqueeze(attributes: Attributes) -> Operation:
    fixed = attributes.wholes("axes")

    def unsqueezed(values: Tensor, asked: Tensor | None = None) -> Tensor:
        axes = fixed if asked is None else wholes_of(asked)
        rank = values.ndim + len(axes)
        for axis in sorted(each % rank for each in axes):
            values = values.unsqueeze(axis)
        return values

    return unsqueezed


def _concat(attributes: Attributes) -> Operation:
    axis = attributes.whole("axis", 0)
    return lambda *each: torch.cat(each, axis)


def _split(attributes: Attributes) -> Operation:
    axis, fixed = attributes.whole("axis", 0), attributes.wholes("split")
    parts = attributes.whole("num_outputs", attributes.outputs)

    def split(values: Tensor, asked: Tensor | None = None) -> tuple[Tensor, ...]:
        sizes = fixed if asked is None else wholes_of(asked)
        each = -(-values.shape[axis] // parts)
        return torch.split(values, list(sizes) or each, axis)

    return split


def _common(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """The shape to which both are broadcast."""
    rank = max(len(left), len(right))
    padded = ((1,) * (rank - len(each)) + each for each in (left, right))
    return tuple(second if first == 1 else first for first, second in zip(*padded, strict=True))


def _expanded(values: Tensor, shape: Tensor) -> Tensor:
    return torch.broadcast_to(values, _common(tuple(values.shape), wholes_of(shape)))


def _tiled(values: Tensor, times: Tensor) -> Tensor:
    return values.tile(wholes_of(times))


def _pad(attributes: Attributes) -> Operation:
    mode = _MODES[attributes.text("mode", "constant")]
    pads, value = attributes.wholes("pads"), attributes.real("value", 0.0)

    def padded(
        values: Tensor, asked: Tensor | None = None, filling: Tensor | None = None, along: Tensor | None = None
    ) -> Tensor:
        sizes = pads if asked is None else wholes_of(asked)
        axes = range(values.ndim) if along is None else [each % values.ndim for each in wholes_of(along)]
        by_axis = dict(zip(axes, zip(sizes[: len(axes)], sizes[len(axes) :], strict=True), strict=True))
        outermost = min((axis for axis, both in by_axis.items() if any(both)), default=values.ndim)
        # torch begins with the last axis.
        flat = [size for axis in reversed(range(outermost, values.ndim)) for size in by_axis.get(axis, (0, 0))]
        if mode != "constant":
            return functional.pad(values, flat, mode) if flat else values
        return functional.pad(values, flat, mode, value if filling is None else float(filling))

    return padded


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _filled(attributes: Attributes) -> Operation:
    value = attributes.tensor("value") if attributes.has("value") else torch.zeros(1)
    return lambda shape: value.reshape(()).repeat(wholes_of(shape))


def _triangle(attributes: Attributes) -> Operation:
    keep = torch.triu if attributes.whole("upper", 1) else torch.tril
    return lambda values, diagonal=None: keep(values, 0 if diagonal is None else int(diagonal))


def _depth_to_space(attributes: Attributes) -> Operation:
    side, takes_columns_first = attributes.whole("blocksize", 1), attributes.text("mode", "DCR") == "DCR"

    def spread(values: Tensor) -> Tensor:
        batch, channels, height, width = values.shape
        inner = channels // side**2
        if takes_columns_first:
            parts = values.reshape(batch, side, side, inner, height, width).permute(0, 3, 4, 1, 5, 2)
        else:
            parts = values.reshape(batch, inner, side, side, height, width).permute(0, 1, 4, 2, 5, 3)
        return parts.reshape(batch, inner, height * side, width * side)

    return spread


def _space_to_depth(attributes: Attributes) -> Operation:
    side, takes_columns_first = attributes.whole("blocksize", 1), attributes.text("mode", "DCR") == "DCR"
    order = (0, 3, 5, 1, 2, 4) if takes_columns_first else (0, 1, 3, 5, 2, 4)

    def gathered(values: Tensor) -> Tensor:
        batch, channels, height, width = values.shape
        parts = values.reshape(batch, channels, height // side, side, width // side, side).permute(order)
        return parts.reshape(batch, channels * side**2, height // side, width // side)

    return gathered


def _resize(attributes: Attributes) -> Operation:
    mode, places = attributes.text("mode", "nearest"), attributes.text("coordinate_transformation_mode", "half_pixel")
    is_nearest = mode == "nearest" and places == "asymmetric" and attributes.text("nearest_mode", "") == "floor"
    attributes.require(is_nearest or (mode == "linear" and places == "half_pixel"), f"mode {mode} at {places} places")
    attributes.require(not attributes.has("axes") and not attributes.whole("antialias", 0), "axes or antialias")

    def resized(
        values: Tensor, region: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
    ) -> Tensor:
        wanted = wholes_of(sizes)[2:] if sizes is not None and sizes.numel() else None
        factors = tuple(scales.tolist()[2:]) if scales is not None and wanted is None else None
        kind = "nearest" if is_nearest else {1: "linear", 2: "bilinear", 3: "trilinear"}[values.ndim - 2]
        return functional.interpolate(values, wanted, factors, kind)

    return resized


def _dropout(attributes: Attributes) -> Operation:
    attributes.require(attributes.outputs == 1, "its mask as an output")

    def passed(values: Tensor, ratio: Tensor | None = None, trains: Tensor | None = None) -> Tensor:
        attributes.require(trains is None or not bool(trains), "training_mode")
        return values

    return passed


SHAPING: Final[Mapping[str, Operator]] = {
    "Concat": Operator(_concat),
    "ConstantOfShape": Operator(_filled, frozenset({0})),
    "DepthToSpace": Operator(_depth_to_space),
    "Dropout": Operator(_dropout, frozenset({1, 2})),
    "Expand": Operator(lambda _: _expanded, frozenset({1})),
    "Flatten": Operator(_flatten),
    "Identity": plain(lambda values: values),
    "Pad": Operator(_pad, frozenset({1, 2, 3})),
    "Range": Operator(lambda _: _range, frozenset({0, 1, 2})),
    "Reshape": Operator(_reshape, frozenset({1})),
    "Resize": Operator(_resize, frozenset({1, 2, 3})),
    "Shape": Operator(_shape),
    "Size": plain(lambda values: torch.tensor(values.numel())),
    "SpaceToDepth": Operator(_space_to_depth),
    "Split": Operator(_split, frozenset({1})),
    "Squeeze": Operator(_squeeze, frozenset({1})),
    "Tile": Operator(lambda _: _tiled, frozenset({1})),
    "Transpose": Operator(_transpose),
    "Trilu": Operator(_triangle, frozenset({1})),
    "Unsqueeze": Operator(_unsqueeze, frozenset({1})),
}
"""By the operator's name."""
