"""Rounding that makes up in the weights to come for the error of those that are done.

GPTQ (Frantar, Ashkboos, Hoefler and Alistarh, 2023, arXiv 2210.17323). ONNX Runtime's own tool rounds the result a
second time, to other scales than the ones that it was found for; here codes and scales come from one pass.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from mlctl.compression.quantization.blocks import BlockForm, Blocks, codes, grid
from mlctl.compression.quantization.serialization import serialized
from mlctl.runtime.answers import Arrays
from mlctl.runtime.session import OnnxSession

_DAMPING: Final = 0.01
"""Share of the mean diagonal that is added to it, as in the paper: directions without data must not explode."""

_LAZY: Final = 128
"""Rows whose errors are carried on together."""

_MEMORY: Final = 1 << 30
"""Bytes of second moments that are collected in one pass over the rows."""

Moments: TypeAlias = npt.NDArray[np.float64]


def second_moments(
    model: onnx.ModelProto, widths: dict[str, int], batches: Sequence[Arrays], *, threads: int
) -> Iterator[dict[str, Moments]]:
    """For every activation [..., K] that `widths` names with its K: the mean of x xᵀ over all its vectors, [K, K].

    They come by the gibibyte, and `batches` are answered anew for each. Raises what the session raises, and
    StepFailed for a graph above 2 GiB.
    """
    for names in _slices(widths):
        session = OnnxSession(serialized(_watched(model, names)), threads=threads, outputs=names)
        sums = {name: np.zeros((widths[name], widths[name])) for name in names}
        count = dict.fromkeys(names, 0)
        for batch in batches:
            for name, values in zip(names, session.all(batch), strict=True):
                vectors = values.reshape(-1, widths[name])
                sums[name] += vectors.T @ vectors
                count[name] += len(vectors)
        yield {name: sums[name] / max(count[name], 1) for name in names}


def compensated(weight: npt.NDArray[np.float32], moments: Moments, form: BlockForm) -> Blocks:
    """The blocks of float32 [K, N] whose answers to inputs with these second moments [K, K] differ least."""
    rows, columns = weight.shape
    inverse = _inverse_root(moments)
    rest = weight.astype(np.float64)
    blocks = -(-rows // form.block_size)
    result = np.zeros((columns, blocks, form.block_size), np.uint8)
    scales = np.zeros((columns, blocks), np.float32)
    zero_points = np.zeros((columns, blocks), np.uint8)
    for start in range(0, rows, _LAZY):
        stop = min(start + _LAZY, rows)
        errors = np.zeros((stop - start, columns))
        for row in range(start, stop):
            block, place = divmod(row, form.block_size)
            if place == 0:
                ahead = rest[row : row + form.block_size].T.astype(np.float32)
                scales[:, block], zero_points[:, block] = grid(ahead, form)
            scale, zero = scales[:, block], zero_points[:, block]
            found = codes(rest[row].astype(np.float32)[:, None], scale, zero, form.levels)[:, 0]
            result[:, block, place] = found
            errors[row - start] = (rest[row] - (found - zero.astype(np.float64)) * scale) / inverse[row, row]
            inner = slice(row, min(stop, rows))
            rest[inner] -= np.outer(inverse[row, inner], errors[row - start])
        rest[stop:] -= inverse[start:stop, stop:].T @ errors
    filling = rows - (blocks - 1) * form.block_size
    result[:, -1, filling:] = zero_points[:, -1:]
    return Blocks(result, scales, zero_points)


def _inverse_root(moments: Moments) -> Moments:
    """The upper Cholesky factor of the damped moments' inverse."""
    damped = moments.copy()
    diagonal = np.einsum("ii->i", damped)
    diagonal += _DAMPING * diagonal.mean()
    diagonal[diagonal == 0] = 1  # no activation at all: plain rounding
    return np.linalg.cholesky(np.linalg.inv(damped)).T


def _watched(model: onnx.ModelProto, names: tuple[str, ...]) -> onnx.ModelProto:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    present = {port.name for port in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in present
    )
    return watched


def _slices(widths: dict[str, int]) -> Iterator[tuple[str, ...]]:
    names: list[str] = []
    size = 0
    for name, width in widths.items():
        if names and size + 8 * width * width > _MEMORY:
            yield tuple(names)
            names, size = [], 0
        names.append(name)
        size += 8 * width * width
    if names:
        yield tuple(names)
