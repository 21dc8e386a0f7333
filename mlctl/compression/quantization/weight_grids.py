"""The integers of weights that move: scales and zero points that follow them as ONNX Runtime's quantizer finds them."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from mlctl.graphs.torch_rounding import LIMITS, rounded_weight

_TINY = float(np.finfo(np.float32).tiny)
"""The smallest scale that ONNX Runtime's quantizer writes; below it all is zero, and the scale is 1."""


_SAME = 1 + 1e-5
"""What two scales may differ by, as a factor, that are the same number found in two precisions."""


@dataclass(frozen=True)
class StoredGrid:
    """Names of the stored tensors of a rounded weight: its integers, their scale and zero point; and the axis along
    which these differ, None where they are one for all."""

    integers: str
    scale: str
    zero: str
    axis: int | None

    @classmethod
    def of(cls, node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> Self | None:
        """What a DequantizeLinear reads; None where it is no stored weight with a scale and a zero point."""
        if node.op_type != "DequantizeLinear" or len(node.input) < 3 or not stored.keys() >= set(node.input):
            return None
        axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
        is_one = int(np.prod(stored[node.input[1]].dims)) == 1
        rank = len(stored[node.input[0]].dims)
        return cls(node.input[0], node.input[1], node.input[2], None if is_one else axis % rank)


@dataclass(frozen=True)
class WeightGrid:
    """How weights of 8 bits get their scales: as many steps below zero as above for signed integers and where every
    channel has its own, else from the smallest weight to the largest.

    `limits` are the smallest and the largest integer that is used. `least` float32 [C] or [] are scales that none falls
    below: of channels which the quantizer gave wider ones than their weights need, for their biases to fit into 32
    bits.
    `fixed` are a scale and zero point that stay, of tensors which the quantizer rounds in another way.
    """

    axis: int | None
    limits: tuple[int, int]
    is_symmetric: bool
    least: Tensor
    fixed: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, grid: StoredGrid, weight: Tensor, scale: Tensor, zero: Tensor, has_reduced_range: bool) -> Self:
        """The grid whose scale and zero point of the float `weight` are those that the quantizer wrote."""
        is_symmetric = zero.dtype == torch.int8 or grid.axis is not None
        whole = cls(grid.axis, _used(zero.dtype, has_reduced_range), is_symmetric, torch.zeros_like(scale))
        found, middle = whole.scale_and_zero(weight)
        # The same arithmetic in another precision may differ by the last bit.
        is_wider = scale > found * _SAME
        if not torch.equal(middle, zero.reshape(middle.shape).to(torch.int32)) or bool((found > scale * _SAME).any()):
            return replace(whole, limits=LIMITS[zero.dtype], is_symmetric=False, fixed=(scale, zero.to(torch.int32)))
        return replace(whole, least=torch.where(is_wider, scale, 0.0))

    def to(self, device: torch.device) -> Self:
        """The same with its numbers on `device`, so that no step has to move them."""
        fixed = None if self.fixed is None else (self.fixed[0].to(device), self.fixed[1].to(device))
        return replace(self, least=self.least.to(device), fixed=fixed)

    @property
    def middle(self) -> int:
        """The integer that is zero where there are as many steps below as above."""
        return round(sum(self.limits) / 2)

    @torch.no_grad()
    def scale_and_zero(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Scale float32 and zero point int32, [C] or [], of the weight as it is now."""
        if self.fixed is not None:
            return self.fixed
        axes = [each for each in range(weight.ndim) if each != self.axis]
        low, high = (weight.amin(axes), weight.amax(axes)) if axes else (weight, weight)
        low, high = low.clamp(max=0), high.clamp(min=0)
        if self.is_symmetric:
            high = torch.maximum(-low, high)
            low = -high
        scale = torch.maximum((high - low) / (self.limits[1] - self.limits[0]), self.least)
        scale = torch.where(scale < _TINY, 1.0, scale)
        if self.is_symmetric:
            return scale, torch.full_like(scale, self.middle, dtype=torch.int32)
        return scale, torch.round(self.limits[0] - low / scale).to(torch.int32)

    def rounded(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The weight as its integers say it, with the straight-through gradient; their scale and zero point."""
        scale, zero = self.scale_and_zero(weight)
        moved = None if self.is_symmetric and self.middle == 0 else zero
        return rounded_weight(weight, scale, moved, self.limits, self.axis), scale, zero


@dataclass(frozen=True)
class BiasGrid:
    """How a bias becomes integers of 32 bits, in steps of its node's products: its scale is `factor` times that of
    the `weight` of this name, or the one `fixed` [C] or [] where it follows none."""

    axis: int | None
    weight: str | None
    factor: float
    fixed: Tensor

    @classmethod
    def of(cls, grid: StoredGrid, scale: Tensor, weight: str | None, weight_scale: Tensor | None) -> Self:
        """The grid of a bias whose `scale` the quantizer wrote, beside a weight that has `weight_scale`, if any."""
        if weight is None or weight_scale is None or weight_scale.numel() != scale.numel():
            return cls(grid.axis, None, 0.0, scale)
        factors = (scale / weight_scale).flatten()
        factor = float(factors.median())
        # A bias that several nodes share has the scale of one of them.
        follows = bool(torch.allclose(factors, torch.full_like(factors, factor), rtol=1e-5))
        return cls(grid.axis, weight if follows else None, factor, scale)

    def to(self, device: torch.device) -> Self:
        """The same with its numbers on `device`."""
        return replace(self, fixed=self.fixed.to(device))

    def rounded(self, bias: Tensor, weight_scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """The bias as its integers say it, with the straight-through gradient; and their scale."""
        scale = self.fixed if weight_scale is None else weight_scale.reshape(self.fixed.shape) * self.factor
        return rounded_weight(bias, scale, None, LIMITS[torch.int32], self.axis), scale


def integers(values: Tensor, scale: Tensor, zero: Tensor, like: onnx.TensorProto, axis: int | None) -> onnx.TensorProto:
    """Rounded `values` as the integers that they stand for, in the type, shape and name of `like`."""
    numbers = values.detach().double().cpu().numpy()
    shape = [-1 if place == axis else 1 for place in range(numbers.ndim)] if axis is not None else []
    steps, middle = (each.detach().double().cpu().numpy().reshape(shape) for each in (scale, zero))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(like.data_type)
    # What was rounded is a whole number of steps, and nothing is left to decide.
    whole = np.rint(numbers / steps) + middle
    kept = np.clip(whole, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)
    return numpy_helper.from_array(np.ascontiguousarray(kept), like.name)


def floats(values: Tensor, like: onnx.TensorProto) -> onnx.TensorProto:
    """`values` in the shape and name of `like`."""
    found = values.detach().to(torch.float32).cpu().numpy().reshape(tuple(like.dims))
    return numpy_helper.from_array(np.ascontiguousarray(found), like.name)


def _used(dtype: torch.dtype, has_reduced_range: bool) -> tuple[int, int]:
    """The integers that ONNX Runtime's quantizer uses for weights of this type."""
    if has_reduced_range:
        return (-64, 64) if dtype == torch.int8 else (0, 127)
    return (-127, 127) if dtype == torch.int8 else (0, 255)
