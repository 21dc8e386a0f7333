"""Weights in blocks of a column that share a scale, and how they are rounded.

A weight is [K, N], as MatMul takes it. Blocks run along K, the last one of a column filled up with zeros; everything
here is [N, blocks, block], as ONNX Runtime's MatMulNBits stores it.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Bits: TypeAlias = Literal[4, 8]

_HQQ_ROUNDS: Final = 20
_HQQ_NORM: Final = 0.7
_HQQ_FIRM: Final = 10.0
_HQQ_FIRMER: Final = 1.01


@dataclass(frozen=True)
class BlockForm:
    """Bits of a weight, weights of a block, and whether zero stands in the middle or where each block wants it."""

    bits: Bits = 4
    block_size: int = 32
    is_symmetric: bool = True

    @property
    def levels(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The code that is zero in symmetric blocks."""
        return 1 << (self.bits - 1)


@dataclass(frozen=True)
class Blocks:
    """`(codes - zero_points) * scales` is the weight.

    `codes` uint8 [N, blocks, block], not packed; `scales` float32 [N, blocks]; `zero_points` [N, blocks], uint8 codes
    or, from HQQ, float32.
    """

    codes: Bytes
    scales: Floats
    zero_points: Bytes | Floats

    def weight(self, rows: int) -> Floats:
        """The weight that the codes stand for, float32 [K, N] with K = `rows`."""
        values = (self.codes.astype(np.float32) - self.zero_points[..., None]) * self.scales[..., None]
        return np.ascontiguousarray(values.reshape(len(values), -1)[:, :rows].T)


def in_blocks(weight: Floats, block_size: int) -> Floats:
    """float32 [K, N] as [N, blocks, block]."""
    rows, columns = weight.shape
    blocks = -(-rows // block_size)
    filled = np.zeros((columns, blocks * block_size), np.float32)
    filled[:, :rows] = weight.T
    return filled.reshape(columns, blocks, block_size)


def grid(values: Floats, form: BlockForm) -> tuple[Floats, Bytes]:
    """Scale and zero point of blocks [..., block] such that no value lies more than half a step from a code.

    Zero is always a code. A symmetric block spends its one code more on the longer side, as ONNX Runtime's tool does,
    but never cuts the other side off by more than half a step.
    """
    low, high = np.minimum(values.min(-1), 0), np.maximum(values.max(-1), 0)
    if form.is_symmetric:
        # From -8 to 7 for four bits: the longer side ends on its last code, the other half a step beyond its own.
        longer, other = np.maximum(-low, high), np.minimum(-low, high)
        scale = np.maximum(longer / form.middle, other / (form.middle - 0.5))
        scale = np.where(high > -low, -scale, scale).astype(np.float32)
        return scale, np.full(scale.shape, form.middle, np.uint8)
    scale = ((high.astype(np.float64) - low) / form.levels).astype(np.float32)
    zero = np.rint(np.divide(-low, scale, out=np.zeros_like(scale), where=scale > 0))
    return scale, np.clip(zero, 0, form.levels).astype(np.uint8)


def codes(values: Floats, scales: Floats, zero_points: Bytes | Floats, levels: int) -> Bytes:
    """The nearest code of every value of blocks [..., block]; the zero point's where the scale is zero."""
    divisors = np.where(scales == 0, np.float32(1), scales)[..., None]
    found = np.rint(values / divisors + zero_points[..., None].astype(np.float32))
    return np.clip(found, 0, levels).astype(np.uint8)


def round_to_nearest(weight: Floats, form: BlockForm) -> Blocks:
    """Every weight of float32 [K, N] to its nearest code: nothing moves by more than half a step."""
    values = in_blocks(weight, form.block_size)
    scales, zero_points = grid(values, form)
    return Blocks(codes(values, scales, zero_points, form.levels), scales, zero_points)


def half_quadratic(weight: Floats, form: BlockForm) -> Blocks:
    """Codes and zero points that minimize the sum of |error|^0.7, which forgives outliers.

    Half-quadratic quantization (Badri and Shaji, 2023, mobiusml.github.io/hqq_blog): shrinking the error and moving
    the zero point take turns for 20 rounds; each block keeps its best. Zero points become floats.
    """
    values = in_blocks(weight, form.block_size)
    scales, whole = grid(values, BlockForm(form.bits, form.block_size, is_symmetric=False))
    steps = np.where(scales == 0, np.float32(1), scales)[..., None]
    zero = whole.astype(np.float32)
    best, least, firm = zero, np.full(zero.shape, np.inf, np.float32), _HQQ_FIRM
    for _ in range(_HQQ_ROUNDS):
        rounded = codes(values, scales, zero, form.levels)
        error = values - (rounded - zero[..., None]) * steps
        loss = (np.abs(error) ** _HQQ_NORM).mean(-1)
        best, least = np.where(loss < least, zero, best), np.minimum(loss, least)
        zero = (rounded - (values - _shrunk(error, firm)) / steps).mean(-1)
        firm *= _HQQ_FIRMER
    return Blocks(codes(values, scales, best, form.levels), scales, best)


def packed(found: Blocks, form: BlockForm) -> tuple[Bytes, Bytes | Floats | None]:
    """Codes uint8 [N, blocks, block * bits / 8] and zero points as MatMulNBits takes them.

    Of two codes in a byte the first is the lower half. Zero points are packed likewise, [N, bytes]; there are none
    in symmetric blocks, whose zero is the middle.
    """
    if found.zero_points.dtype == np.float32:
        return _pairs(found.codes, form), found.zero_points
    return _pairs(found.codes, form), None if form.is_symmetric else _pairs(found.zero_points, form)


def _pairs(values: npt.NDArray[np.generic], form: BlockForm) -> Bytes:
    flat = values.astype(np.uint8)
    if form.bits == 8:
        return flat
    if flat.shape[-1] % 2:
        flat = np.concatenate([flat, np.full((*flat.shape[:-1], 1), form.middle, np.uint8)], axis=-1)
    return np.asarray(flat[..., ::2] | (flat[..., 1::2] << 4), np.uint8)


def _shrunk(error: Floats, firm: float) -> Floats:
    """The proximal operator of the norm: small errors vanish, large ones stay."""
    size = np.abs(error)
    left = size - (size + np.float32(1e-8)) ** (_HQQ_NORM - 1) / np.float32(firm)
    return np.asarray(np.sign(error) * np.maximum(left, 0), np.float32)
